// Command templates makes the expected renderings that the tests of app/runtime/templates compare with, by Go's own
// text/template. Run it in this folder: go run . (it reads ../cases and ../families and writes ../expected.json).
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"text/template"
)

// The day that currentDate tells here and in the tests.
const today, yesterday = "2031-07-05", "2031-07-04"

var functions = template.FuncMap{
	"json":          asJSON,
	"currentDate":   func(...string) string { return today },
	"yesterdayDate": func(...string) string { return yesterday },
	"toTypeScriptType": func(value any) string {
		if property, ok := value.(ToolProperty); ok {
			return property.ToTypeScriptType()
		}
		return "any"
	},
}

// Types bear the names of the packages they have in Ollama, in errors and for %T.
var packages = strings.NewReplacer(
	"main.template", "template.template", "main.Tool", "api.Tool", "main.Property", "api.Property", "main.Image", "api.Image",
)

type result struct {
	Case  string  `json:"case"`
	Text  *string `json:"text,omitempty"`
	Error string  `json:"error,omitempty"`
}

func made(name, text string, err error) result {
	text = packages.Replace(text)
	if err != nil {
		return result{Case: name, Error: packages.Replace(err.Error())}
	}
	return result{Case: name, Text: &text}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func read(path string, into any) {
	data, err := os.ReadFile(filepath.Join("..", path))
	check(err)
	check(json.Unmarshal(data, into))
}

func keys[V any](m map[string]V) []string {
	var found []string
	for key := range m {
		found = append(found, key)
	}
	sort.Strings(found)
	return found
}

func render(text string, data any) (string, error) {
	tmpl, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(text)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = tmpl.Execute(&out, data)
	return out.String(), err
}

func main() {
	var language struct {
		Data   any                 `json:"data"`
		Groups map[string][]string `json:"groups"`
	}
	var conversations map[string]request
	var shapes map[string]struct {
		Conversation string   `json:"conversation"`
		Templates    []string `json:"templates"`
	}
	read("cases/language.json", &language)
	read("cases/conversations.json", &conversations)
	read("cases/chat.json", &shapes)

	var results []result
	for _, group := range keys(language.Groups) {
		for i, text := range language.Groups[group] {
			rendered, err := render(text, language.Data)
			results = append(results, made("language/"+group+"/"+strconv.Itoa(i), rendered, err))
		}
	}
	for _, group := range keys(shapes) {
		for i, text := range shapes[group].Templates {
			rendered, err := renderChat(text, conversations[shapes[group].Conversation])
			results = append(results, made("chat/"+group+"/"+strconv.Itoa(i), rendered, err))
		}
	}
	families, err := filepath.Glob("../families/*.gotmpl")
	check(err)
	for _, family := range families {
		text, err := os.ReadFile(family)
		check(err)
		for _, name := range keys(conversations) {
			rendered, err := renderChat(string(text), conversations[name])
			base := strings.TrimSuffix(filepath.Base(family), ".gotmpl")
			results = append(results, made("families/"+base+"/"+name, rendered, err))
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	check(encoder.Encode(results))
	check(os.WriteFile("../expected.json", out.Bytes(), 0o644))
}
