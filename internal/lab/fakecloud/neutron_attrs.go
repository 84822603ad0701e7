package fakecloud

import (
	"net/http"
	"strconv"
	"strings"
)

// attr is one attribute.
type attr struct {
	name      string
	post, put bool
	need      bool // must be given in POST
	hidden    bool // input only
	admin     bool // shown to administrators only
	def       any
}

// rw may be set always, co on creation only, ro never; must has to be given.
func rw(name string, def any) attr { return attr{name: name, post: true, put: true, def: def} }
func co(name string, def any) attr { return attr{name: name, post: true, def: def} }
func ro(name string, def any) attr { return attr{name: name, def: def} }
func must(a attr) attr             { a.need = true; return a }

// convert checks a value as the attribute's default says what it is.
func (a attr) convert(v any) (any, error) {
	fits := true
	switch a.def.(type) {
	case bool:
		if s, isText := v.(string); isText {
			if b, err := strconv.ParseBool(strings.ToLower(s)); err == nil {
				v = b
			}
		}
		_, fits = v.(bool)
	case []any:
		if v == nil {
			return []any{}, nil
		}
		_, fits = v.([]any)
	case string:
		if a.name == "name" || a.name == "description" {
			_, fits = v.(string)
		}
	}
	if !fits {
		return nil, failedAs(http.StatusBadRequest, "HTTPBadRequest", "Invalid input for %s. Reason: '%v' is not valid.", a.name, v)
	}
	return v, nil
}

// unset is the default of attributes that the service works out itself when
// the client does not name them; null is something else.
const unset = "\x00unset"
