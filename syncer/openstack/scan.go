package openstack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// A listing of thousands of rows is asked for in every run, and nearly none of
// them has changed since. So a page is only parted into its rows, and of a row
// what tells whether it has changed is read: to take all of it apart costs ten
// times as much. Who wants the whole of a row decodes its text, which is then
// checked by encoding/json.

var errScan = errors.New("the answer is no whole JSON")

// deepest is how far values may be nested.
const deepest = 100

// splitPage parts a page: its rows under one key, and all else decoded. rows is
// nil where the page has no such list.
func splitPage(text []byte, many string) (rows [][]byte, rest map[string]any, err error) {
	rest = make(map[string]any)
	err = members(text, func(key, value []byte) error {
		if string(key) != many || value[0] != '[' {
			var v any
			if err := decode(value, &v); err != nil {
				return err
			}
			rest[string(key)] = v
			return nil
		}
		rows = make([][]byte, 0, 64)
		return elements(value, func(value []byte) error {
			if value[0] != '{' {
				return errors.New("an entry is no object")
			}
			rows = append(rows, value)
			return nil
		})
	})
	return rows, rest, err
}

// decode reads a whole value as gophercloud does: numbers stay as they are
// written.
func decode(text []byte, out any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(out); err != nil {
		return err
	}
	if d.InputOffset() < int64(len(text)) {
		return errScan
	}
	return nil
}

func decodeRow(text []byte) (row, error) {
	var r map[string]any
	if err := decode(text, &r); err != nil {
		return nil, fmt.Errorf("decode a row: %w", err)
	}
	return r, nil
}

// decodeSome reads of a row only what is wanted, into r; nil: all of it.
func decodeSome(text []byte, wanted map[string]bool, r row) error {
	clear(r)
	err := members(text, func(key, value []byte) error {
		if wanted != nil && !wanted[string(key)] {
			return nil
		}
		v, ok := plainValue(value)
		if !ok {
			if err := decode(value, &v); err != nil {
				return err
			}
		}
		r[string(key)] = v
		return nil
	})
	if err != nil {
		return fmt.Errorf("decode a row: %w", err)
	}
	return nil
}

// plainValue reads the values that most are, as encoding/json would.
func plainValue(value []byte) (any, bool) {
	switch string(value) {
	case "null":
		return nil, true
	case "true":
		return true, true
	case "false":
		return false, true
	}
	switch {
	case value[0] == '"':
		text, ok := plainText(value)
		return text, ok
	case value[0] == '[':
		return plainTexts(value)
	case value[0] > '0' && value[0] <= '9' && len(bytes.Trim(value, "0123456789")) == 0:
		return json.Number(value), true
	}
	return nil, false
}

// plainText is a string without anything that would have to be replaced.
func plainText(value []byte) (string, bool) {
	text := value[1 : len(value)-1]
	if !simple(text) {
		return "", false
	}
	return string(text), true
}

func simple(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// plainTexts is a list of such.
func plainTexts(value []byte) (any, bool) {
	list := []any{}
	err := elements(value, func(e []byte) error {
		if e[0] != '"' {
			return errScan
		}
		text, ok := plainText(e)
		if !ok {
			return errScan
		}
		list = append(list, text)
		return nil
	})
	return list, err == nil
}

// members gives the members of an object, whose text is whole JSON but for what
// stands in its values, which are not empty.
func members(text []byte, each func(key, value []byte) error) error {
	at := blank(text, 0)
	if at >= len(text) || text[at] != '{' {
		return errScan
	}
	end, err := passObject(text, at, 0, each)
	if err != nil {
		return err
	}
	if blank(text, end) != len(text) {
		return errScan
	}
	return nil
}

// elements is members of a list.
func elements(text []byte, each func(value []byte) error) error {
	at := blank(text, 0)
	if at >= len(text) || text[at] != '[' {
		return errScan
	}
	end, err := passArray(text, at, 0, each)
	if err != nil {
		return err
	}
	if blank(text, end) != len(text) {
		return errScan
	}
	return nil
}

// blank passes over white space.
func blank(b []byte, at int) int {
	for at < len(b) && (b[at] == ' ' || b[at] == '\n' || b[at] == '\t' || b[at] == '\r') {
		at++
	}
	return at
}

// passObject passes over one that begins at at.
func passObject(b []byte, at, depth int, each func(key, value []byte) error) (int, error) {
	at = blank(b, at+1)
	if at < len(b) && b[at] == '}' {
		return at + 1, nil
	}
	for {
		if at >= len(b) || b[at] != '"' {
			return 0, errScan
		}
		key := at
		var err error
		if at, err = passText(b, at); err != nil {
			return 0, err
		}
		name := b[key:at]
		if at = blank(b, at); at >= len(b) || b[at] != ':' {
			return 0, errScan
		}
		at = blank(b, at+1)
		from := at
		if at, err = passValue(b, at, depth+1); err != nil {
			return 0, err
		}
		if each != nil {
			if err := member(name, b[from:at], each); err != nil {
				return 0, err
			}
		}
		if at = blank(b, at); at >= len(b) {
			return 0, errScan
		}
		if b[at] == '}' {
			return at + 1, nil
		}
		if b[at] != ',' {
			return 0, errScan
		}
		at = blank(b, at+1)
	}
}

func member(name, value []byte, each func(key, value []byte) error) error {
	if simple(name[1 : len(name)-1]) {
		return each(name[1:len(name)-1], value)
	}
	var key string
	if err := json.Unmarshal(name, &key); err != nil {
		return err
	}
	return each([]byte(key), value)
}

// passArray is passObject for a list.
func passArray(b []byte, at, depth int, each func([]byte) error) (int, error) {
	at = blank(b, at+1)
	if at < len(b) && b[at] == ']' {
		return at + 1, nil
	}
	for {
		from := at
		var err error
		if at, err = passValue(b, at, depth+1); err != nil {
			return 0, err
		}
		if each != nil {
			if err := each(b[from:at]); err != nil {
				return 0, err
			}
		}
		if at = blank(b, at); at >= len(b) {
			return 0, errScan
		}
		if b[at] == ']' {
			return at + 1, nil
		}
		if b[at] != ',' {
			return 0, errScan
		}
		at = blank(b, at+1)
	}
}

// passValue passes over one of any kind.
func passValue(b []byte, at, depth int) (int, error) {
	if at >= len(b) || depth > deepest {
		return 0, errScan
	}
	switch b[at] {
	case '"':
		return passText(b, at)
	case '{':
		return passObject(b, at, depth, nil)
	case '[':
		return passArray(b, at, depth, nil)
	}
	from := at
	for at < len(b) && (b[at] >= 'a' && b[at] <= 'z' || b[at] >= '0' && b[at] <= '9' || b[at] == '-' || b[at] == '+' || b[at] == '.' || b[at] == 'E') {
		at++
	}
	if at == from {
		return 0, errScan
	}
	return at, nil
}

// passText passes over a string, its quotes included.
func passText(b []byte, at int) (int, error) {
	for i := at + 1; i < len(b); i++ {
		switch b[i] {
		case '"':
			return i + 1, nil
		case '\\':
			i++
		}
	}
	return 0, errScan
}
