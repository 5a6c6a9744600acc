package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/raftmq/mq"
)

// decode sets a field to what a node says. A whole number gets the unit.
func decode(node *yaml.Node, unit string, into reflect.Value) error {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	switch kind := into.Kind(); {
	case kind == reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return decode(node, unit, into.Elem())
	case kind == reflect.Slice:
		return decodeList(node, into)
	case node.Kind != yaml.ScalarNode:
		return fmt.Errorf("want one value, not a list or more keys")
	}
	text := node.Value
	if unit != "" {
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			return fmt.Errorf("%.40q is not a whole number", text)
		}
		text += unit
	}
	return decodeText(text, into)
}

func decodeText(text string, into reflect.Value) error {
	if u, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok {
		err := u.UnmarshalText([]byte(text))
		if err != nil {
			return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), mq.ErrInvalidConfig.Error()+": "))
		}
		return nil
	}
	if into.Type() == reflect.TypeFor[time.Duration]() {
		d, err := time.ParseDuration(text)
		if _, bare := strconv.ParseFloat(text, 64); err != nil && bare == nil {
			return fmt.Errorf("%s wants a unit, as in %[1]sms or %[1]ss", text)
		}
		if err != nil {
			return fmt.Errorf("%.40q is not a duration such as 100ms or 5s", text)
		}
		into.SetInt(int64(d))
		return nil
	}
	switch into.Kind() {
	case reflect.String:
		into.SetString(text)
	case reflect.Bool:
		switch strings.ToLower(text) {
		case "true", "yes", "on":
			into.SetBool(true)
		case "false", "no", "off":
			into.SetBool(false)
		default:
			return fmt.Errorf("%.40q is neither true nor false", text)
		}
	default:
		n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 0, into.Type().Bits())
		if err != nil {
			return fmt.Errorf("%.40q is not a whole number of at most %d bits", text, into.Type().Bits())
		}
		into.SetInt(n)
	}
	return nil
}

// decodeList takes a sequence, or one text with commas as variables have it.
func decodeList(node *yaml.Node, into reflect.Value) error {
	items := node.Content
	switch node.Kind {
	case yaml.ScalarNode:
		items = nil
		for _, text := range strings.Split(node.Value, ",") {
			if text = strings.TrimSpace(text); text != "" {
				items = append(items, &yaml.Node{Kind: yaml.ScalarNode, Value: text})
			}
		}
	case yaml.SequenceNode:
	default:
		return fmt.Errorf("want a list")
	}
	list := reflect.MakeSlice(into.Type(), len(items), len(items))
	for i, item := range items {
		if err := decode(item, "", list.Index(i)); err != nil {
			return err
		}
	}
	into.Set(list)
	return nil
}
