package runtime

import (
	"reflect"
	"testing"
	"unsafe"
)

// TestReadSettingsKnowsEveryOption sets the fields of options, one at a time, to what
// isn't their default: each is passed on or refused by name, none is dropped.
func TestReadSettingsKnowsEveryOption(t *testing.T) {
	plain, err := ReadSettings()
	if err != nil {
		t.Fatal(err)
	}
	harmless := map[string]bool{
		"budget":      true, // made of memoryLimit
		"keepWindows": true, // of tests
		"progress":    true, // a generator without a warm-up has none to report
	}
	fields := reflect.TypeFor[options]()
	for i := range fields.NumField() {
		name := fields.Field(i).Name
		if harmless[name] {
			continue
		}
		got, err := ReadSettings(func(o *options) error {
			v := reflect.ValueOf(o).Elem().Field(i)
			other(t, name, reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem())
			return nil
		})
		if err == nil && got == plain {
			t.Errorf("%s is dropped without a word", name)
		}
		if err != nil && CodeOf(err) != CodeUnsupported {
			t.Errorf("%s: %v (%v)", name, err, CodeOf(err))
		}
	}
}

// other changes v to a value that it doesn't have.
func other(t *testing.T, name string, v reflect.Value) {
	t.Helper()
	switch {
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.CanInt():
		v.SetInt(v.Int() - 1) // of the largest there is none after
	case v.CanUint():
		v.SetUint(v.Uint() + 1)
	case v.CanFloat():
		v.SetFloat(v.Float() / 2)
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "x")
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case v.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem())
	default:
		t.Fatalf("%s: how a %v is changed isn't known", name, v.Type())
	}
}
