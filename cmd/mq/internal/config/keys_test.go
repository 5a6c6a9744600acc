package config_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/raftmq/mq"
	"github.com/raftmq/mq/cmd/mq/internal/config"
)

func TestEveryFieldOfTheLibraryIsASetting(t *testing.T) {
	t.Parallel()
	for section, cfgs := range map[string][]any{
		"broker": {mq.BrokerConfig{}, mq.ClientConfig{}}, "producer": {mq.ProducerConfig{}}, "consumer": {mq.ConsumerConfig{}},
	} {
		for _, cfg := range cfgs {
			for _, field := range reflect.VisibleFields(reflect.TypeOf(cfg)) {
				name := field.Tag.Get("yaml")
				if name == "" {
					t.Errorf("%T.%s has no YAML key", cfg, field.Name)
				}
				isIt := func(n string) bool { return n == section+"."+name || strings.HasPrefix(n, section+"."+name+".") }
				if name != "-" && !slices.ContainsFunc(config.Names(), isIt) {
					t.Errorf("%T.%s is no setting", cfg, field.Name)
				}
			}
		}
	}
}
