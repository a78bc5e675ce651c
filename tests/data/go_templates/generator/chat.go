package main

// What Ollama does around a template: merging messages, and executing templates of the old kind turn by turn.

import (
	"bytes"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// request is a conversation of cases/conversations.json, in the shape of the API.
type request struct {
	Messages []message     `json:"messages"`
	Tools    []requestTool `json:"tools"`
	Think    any           `json:"think"`
	Prompt   string        `json:"prompt"`
	Suffix   string        `json:"suffix"`
}

type message struct {
	Role       string        `json:"role"`
	Content    string        `json:"content"`
	Thinking   string        `json:"thinking"`
	Images     []ImageData   `json:"images"`
	ToolCalls  []requestCall `json:"tool_calls"`
	ToolName   string        `json:"tool_name"`
	ToolCallID string        `json:"tool_call_id"`
}

type requestCall struct {
	ID       string `json:"id"`
	Function struct {
		Index     int            `json:"index"`
		Name      string         `json:"name"`
		Arguments map[string]any `json:"arguments"`
	} `json:"function"`
}

type requestTool struct {
	Type     string `json:"type"`
	Items    any    `json:"items"`
	Function struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Parameters  struct {
			Type       string             `json:"type"`
			Defs       any                `json:"$defs"`
			Items      any                `json:"items"`
			Required   []string           `json:"required"`
			Properties *ToolPropertiesMap `json:"properties"`
		} `json:"parameters"`
	} `json:"function"`
}

func (r request) thinking() map[string]any {
	level, on := "", false
	switch think := r.Think.(type) {
	case string:
		level, on = think, slices.Contains([]string{"high", "medium", "low", "max"}, think)
	case bool:
		if on = think; on {
			level = "medium"
		}
	}
	return map[string]any{"Think": on, "ThinkLevel": level, "IsThinkSet": r.Think != nil, "Response": ""}
}

// merged joins neighbours of one role, but for answers of tools, and collects the system texts.
func (r request) merged() (system string, turns []message) {
	var systems []string
	for _, m := range r.Messages {
		m.Role = strings.ToLower(m.Role)
		if m.Role == "system" {
			systems = append(systems, m.Content)
		}
		if last := len(turns) - 1; last >= 0 && m.Role != "tool" && turns[last].Role == m.Role {
			turns[last].Content += "\n\n" + m.Content
		} else {
			turns = append(turns, m)
		}
	}
	return strings.Join(systems, "\n\n"), turns
}

func shownMessages(turns []message) []*templateMessage {
	var shown []*templateMessage
	for _, m := range turns {
		var calls []templateToolCall
		for _, c := range m.ToolCalls {
			f := c.Function
			calls = append(calls, templateToolCall{c.ID, templateToolCallFunction{f.Index, f.Name, f.Arguments}})
		}
		shown = append(shown, &templateMessage{m.Role, m.Content, m.Thinking, m.Images, calls, m.ToolName, m.ToolCallID})
	}
	return shown
}

func shownTools(tools []requestTool) templateTools {
	var shown templateTools
	for _, t := range tools {
		p := t.Function.Parameters
		parameters := templateToolFunctionParameters{p.Type, p.Defs, p.Items, p.Required, p.Properties.ToMap()}
		function := templateToolFunction{t.Function.Name, t.Function.Description, parameters}
		shown = append(shown, templateTool{t.Type, t.Items, function})
	}
	if tools != nil && shown == nil {
		shown = templateTools{}
	}
	return shown
}

// names collects the fields and variables of a tree.
func names(node parse.Node, found map[string]bool) {
	switch n := node.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, child := range n.Nodes {
				names(child, found)
			}
		}
	case *parse.IfNode:
		namesOfBranch(n.BranchNode, found)
	case *parse.WithNode:
		namesOfBranch(n.BranchNode, found)
	case *parse.RangeNode:
		namesOfBranch(n.BranchNode, found)
	case *parse.ActionNode:
		names(n.Pipe, found)
	case *parse.TemplateNode:
		names(n.Pipe, found)
	case *parse.PipeNode:
		for _, command := range n.Cmds {
			for _, argument := range command.Args {
				names(argument, found)
			}
		}
	case *parse.FieldNode:
		for _, name := range n.Ident {
			found[strings.ToLower(name)] = true
		}
	case *parse.VariableNode:
		for _, name := range n.Ident {
			found[strings.ToLower(name)] = true
		}
	}
}

func namesOfBranch(branch parse.BranchNode, found map[string]bool) {
	names(branch.Pipe, found)
	names(branch.List, found)
	names(branch.ElseList, found)
}

// cutter drops what follows the first .Response in the order of the text.
type cutter struct{ done bool }

func (c *cutter) list(list *parse.ListNode) {
	if list == nil {
		return
	}
	var kept []parse.Node
	for _, node := range list.Nodes {
		if !c.done && c.keeps(node) {
			kept = append(kept, node)
		}
	}
	list.Nodes = kept
}

func (c *cutter) keeps(node parse.Node) bool {
	switch n := node.(type) {
	case *parse.IfNode:
		c.list(n.List)
		c.list(n.ElseList)
	case *parse.WithNode:
		c.list(n.List)
		c.list(n.ElseList)
	case *parse.RangeNode:
		c.list(n.List)
		c.list(n.ElseList)
	case *parse.ActionNode:
		return c.pipe(n.Pipe)
	}
	return true
}

func (c *cutter) pipe(pipe *parse.PipeNode) bool {
	for _, command := range pipe.Cmds {
		var kept []parse.Node
		for _, argument := range command.Args {
			if c.keepsArgument(argument) {
				kept = append(kept, argument)
			}
		}
		if kept == nil {
			return false
		}
		command.Args = kept
	}
	return true
}

func (c *cutter) keepsArgument(argument parse.Node) bool {
	if field, ok := argument.(*parse.FieldNode); ok && slices.Contains(field.Ident, "Response") {
		c.done = true
		return true
	}
	if c.done {
		return false
	}
	if pipe, ok := argument.(*parse.PipeNode); ok {
		return c.pipe(pipe)
	}
	return true
}

func renderChat(text string, r request) (string, error) {
	tmpl, err := template.New("").Option("missingkey=zero").Funcs(functions).Parse(text)
	if err != nil {
		return "", err
	}
	found := map[string]bool{}
	for _, t := range tmpl.Templates() {
		names(t.Root, found)
	}
	if !found["messages"] && !found["response"] {
		extra := template.Must(template.New("").Parse("{{.Response}}"))
		tmpl.Root.Nodes = append(tmpl.Root.Nodes, extra.Root.Nodes...)
	}
	var out bytes.Buffer
	values := r.thinking()
	system, turns := r.merged()
	switch {
	case r.Prompt != "" && r.Suffix != "":
		values["Prompt"], values["Suffix"] = r.Prompt, r.Suffix
		err = tmpl.Execute(&out, values)
	case found["messages"]:
		values["System"], values["Messages"], values["Tools"] = system, shownMessages(turns), shownTools(r.Tools)
		err = tmpl.Execute(&out, values)
	default:
		err = oldWay(tmpl, turns, values, &out)
	}
	return out.String(), err
}

func oldWay(tmpl *template.Template, turns []message, values map[string]any, out *bytes.Buffer) error {
	clear := func() { values["System"], values["Prompt"], values["Response"] = "", "", "" }
	clear()
	for _, m := range turns {
		answered := values["Response"] != ""
		if m.Role == "system" && (answered || values["Prompt"] != "") || m.Role == "user" && answered {
			if err := tmpl.Execute(out, values); err != nil {
				return err
			}
			clear()
		}
		switch m.Role {
		case "system":
			values["System"] = m.Content
		case "user":
			values["Prompt"] = m.Content
		case "assistant":
			values["Response"] = m.Content
		}
	}
	root := tmpl.Root.CopyList()
	new(cutter).list(root)
	last := template.Must(template.New("").AddParseTree("", &parse.Tree{Root: root}))
	return last.Execute(out, values)
}
