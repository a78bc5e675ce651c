package main

// The values that Ollama 0.33 gives to a chat template: names, order and JSON keys of the fields are part of what a
// template can see (they show in printed structs and in error messages), so they are the same here.

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// ImageData is one picture of a message.
type ImageData []byte

// PropertyType is a JSON Schema type, or several.
type PropertyType []string

func (p *PropertyType) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(p))
	}
	var one string
	if err := json.Unmarshal(data, &one); err != nil {
		return err
	}
	*p = PropertyType{one}
	return nil
}

func (p PropertyType) MarshalJSON() ([]byte, error) {
	if len(p) != 1 {
		return json.Marshal([]string(p))
	}
	return json.Marshal(p[0])
}

func (p PropertyType) String() string {
	switch len(p) {
	case 0:
		return ""
	case 1:
		return p[0]
	default:
		return fmt.Sprint([]string(p))
	}
}

// ToolPropertiesMap keeps the properties of a nested object in the order of the request.
type ToolPropertiesMap struct {
	om *ordered
}

type ordered struct {
	names  []string
	values map[string]ToolProperty
}

func (m *ToolPropertiesMap) UnmarshalJSON(data []byte) error {
	found := &ordered{values: map[string]ToolProperty{}}
	reader := json.NewDecoder(bytes.NewReader(data))
	if token, err := reader.Token(); err != nil || token != json.Delim('{') {
		return errors.New("properties must be an object")
	}
	for reader.More() {
		token, err := reader.Token()
		if err != nil {
			return err
		}
		var property ToolProperty
		if err := reader.Decode(&property); err != nil {
			return err
		}
		name := token.(string)
		if _, known := found.values[name]; !known {
			found.names = append(found.names, name)
		}
		found.values[name] = property
	}
	m.om = found
	return nil
}

func (m ToolPropertiesMap) MarshalJSON() ([]byte, error) {
	var text bytes.Buffer
	for i, name := range m.om.names {
		text.WriteByte("{,"[min(i, 1)])
		key, _ := json.Marshal(name)
		value, err := json.Marshal(m.om.values[name])
		if err != nil {
			return nil, err
		}
		text.Write(key)
		text.WriteByte(':')
		text.Write(value)
	}
	if len(m.om.names) == 0 {
		text.WriteByte('{')
	}
	text.WriteByte('}')
	return text.Bytes(), nil
}

// Len and ToMap are methods that a template may call.
func (m *ToolPropertiesMap) Len() int {
	if m == nil {
		return 0
	}
	return len(m.om.names)
}

func (m *ToolPropertiesMap) ToMap() map[string]ToolProperty {
	if m == nil {
		return nil
	}
	return m.om.values
}

// ToolProperty is one parameter of a tool.
type ToolProperty struct {
	AnyOf       []ToolProperty     `json:"anyOf,omitempty"`
	Type        PropertyType       `json:"type,omitempty"`
	Items       any                `json:"items,omitempty"`
	Description string             `json:"description,omitempty"`
	Enum        []any              `json:"enum,omitempty"`
	Properties  *ToolPropertiesMap `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
}

var typeScript = map[string]string{
	"string": "string", "number": "number", "integer": "number", "boolean": "boolean",
	"array": "any[]", "object": "Record<string, any>", "null": "null",
}

// ToTypeScriptType is what the function of the same name gives for a property.
func (p ToolProperty) ToTypeScriptType() string {
	var parts []string
	for _, choice := range p.AnyOf {
		parts = append(parts, choice.ToTypeScriptType())
	}
	if parts == nil {
		for _, name := range p.Type {
			known, ok := typeScript[name]
			if !ok {
				known = "any"
			}
			parts = append(parts, known)
		}
	}
	if parts == nil {
		return "any"
	}
	return strings.Join(parts, " | ")
}

func asJSON(value any) string {
	text, _ := json.Marshal(value)
	return string(text)
}

type templateProperties map[string]ToolProperty

func (p templateProperties) String() string {
	if p == nil {
		return "{}"
	}
	return asJSON(p)
}

type templateToolFunctionParameters struct {
	Type       string             `json:"type"`
	Defs       any                `json:"$defs,omitempty"`
	Items      any                `json:"items,omitempty"`
	Required   []string           `json:"required,omitempty"`
	Properties templateProperties `json:"properties"`
}

type templateToolFunction struct {
	Name        string                         `json:"name"`
	Description string                         `json:"description"`
	Parameters  templateToolFunctionParameters `json:"parameters"`
}

type templateTool struct {
	Type     string               `json:"type"`
	Items    any                  `json:"items,omitempty"`
	Function templateToolFunction `json:"function"`
}

func (t templateTool) String() string { return asJSON(t) }

type templateTools []templateTool

func (t templateTools) String() string { return asJSON(t) }

type templateArgs map[string]any

func (a templateArgs) String() string {
	if a == nil {
		return "{}"
	}
	return asJSON(a)
}

type templateToolCallFunction struct {
	Index     int
	Name      string
	Arguments templateArgs
}

type templateToolCall struct {
	ID       string
	Function templateToolCallFunction
}

type templateMessage struct {
	Role       string
	Content    string
	Thinking   string
	Images     []ImageData
	ToolCalls  []templateToolCall
	ToolName   string
	ToolCallID string
}
