package transporttest

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/raftmq/mq/internal/mqerr"
)

// filled returns a value whose every field, at any depth, is set and differs
// from its neighbours; each error of it is err.
func filled[T any](err error) *T {
	v := new(T)
	f := filler{err: err}
	f.fill(reflect.ValueOf(v).Elem())
	return v
}

type filler struct {
	n   int // grows with every value made
	err error
}

func (f *filler) fill(v reflect.Value) {
	f.n++
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range v.Fields() {
			f.fill(field)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(v.Index(0))
		f.fill(v.Index(1))
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 2 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(key)
			f.fill(value)
			v.SetMapIndex(key, value)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", f.n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int: // sizes in bytes, which doors may bound
		v.SetInt(int64(f.n) * 1000)
	case reflect.Int64:
		v.SetInt(int64(f.n)<<32 + 7)
	case reflect.Int32:
		v.SetInt(int64(f.n)<<16 + 7)
	case reflect.Int16:
		v.SetInt(int64(f.n) + 300)
	case reflect.Int8:
		v.SetInt(int64(f.n) % 127)
	case reflect.Uint8:
		v.SetUint(uint64(f.n)%255 + 1)
	case reflect.Interface:
		v.Set(reflect.ValueOf(&f.err).Elem())
	default:
		panic(fmt.Sprintf("transporttest: a %v in package api: teach this function", v.Type()))
	}
}

// difference says where two values differ; "" if they don't. Errors are equal
// when their sentinels, texts and facts are. A nil slice or map equals an
// empty one; that difference has a test of its own where it means something.
func difference(got, want any) string {
	return differ("", reflect.ValueOf(got), reflect.ValueOf(want))
}

func differ(path string, got, want reflect.Value) string {
	switch got.Kind() {
	case reflect.Pointer:
		if !got.IsNil() && !want.IsNil() {
			return differ(path, got.Elem(), want.Elem())
		}
	case reflect.Struct:
		for i := range got.NumField() {
			if d := differ(path+"."+got.Type().Field(i).Name, got.Field(i), want.Field(i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Slice:
		if got.Len() != want.Len() {
			return fmt.Sprintf("%s: got %d elements, want %d", path, got.Len(), want.Len())
		}
		for i := range got.Len() {
			if d := differ(fmt.Sprintf("%s[%d]", path, i), got.Index(i), want.Index(i)); d != "" {
				return d
			}
		}
		return ""
	case reflect.Map:
		if got.Len() == 0 && want.Len() == 0 {
			return ""
		}
	case reflect.Interface:
		gotErr, _ := got.Interface().(error)
		wantErr, _ := want.Interface().(error)
		if d := differentError(gotErr, wantErr); d != "" {
			return path + ": " + d
		}
		return ""
	default:
	}
	if !reflect.DeepEqual(got.Interface(), want.Interface()) {
		return fmt.Sprintf("%s: got %v, want %v", path, got, want)
	}
	return ""
}

func differentError(got, want error) string {
	switch {
	case mqerr.Of(got) != mqerr.Of(want), (got == nil) != (want == nil):
		return fmt.Sprintf("got error %v of %v, want %v of %v", got, mqerr.Of(got), want, mqerr.Of(want))
	case got == nil:
		return ""
	case got.Error() != want.Error():
		return fmt.Sprintf("got error text %q, want %q", got, want)
	}
	var gotFacts, wantFacts *mqerr.Detail
	if errors.As(got, &gotFacts) != errors.As(want, &wantFacts) {
		return fmt.Sprintf("got error facts %+v, want %+v", gotFacts, wantFacts)
	}
	if gotFacts == nil {
		return ""
	}
	g, w := *gotFacts, *wantFacts
	g.Err, w.Err = nil, nil
	if g != w {
		return fmt.Sprintf("got error facts %+v, want %+v", g, w)
	}
	return ""
}

// tableErrors returns an error for each row of the table, with text around it,
// every second one with facts.
func tableErrors() []error {
	var errs []error
	for i, row := range mqerr.Table() {
		err := fmt.Errorf("append to topic \"ä\": %w: and why", row)
		if i%2 == 0 {
			n := int64(i)
			err = fmt.Errorf("with facts: %w", &mqerr.Detail{
				Err: err, Leader: int32(i), LeaderAddr: "host:1", LeaderEpoch: -1, LogStart: n << 40, HighWatermark: n<<40 + 1,
			})
		}
		errs = append(errs, err)
	}
	return errs
}
