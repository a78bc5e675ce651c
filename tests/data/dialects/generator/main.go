// Command dialects makes the expected answers that the tests of app/wire compare with: it runs every request of
// ../cases.json through the middlewares of Ollama's own source (fb3076099), with the case's native answer behind them,
// and writes to ../expected.json what the native handler was given and what the client saw.
//
// Run it in this folder, with Ollama's source at hand and its cloud switched off:
//
//	go mod edit -replace github.com/ollama/ollama=<source> && cp <source>/go.sum . && OLLAMA_NO_CLOUD=1 go run -mod=mod .
package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/ollama/ollama/middleware"
)

type reply struct {
	Status int               `json:"status"`
	JSON   json.RawMessage   `json:"json"`
	Lines  []json.RawMessage `json:"lines"`
}

type testCase struct {
	Name  string          `json:"name"`
	Route string          `json:"route"`
	JSON  json.RawMessage `json:"json"` // the body, or
	Text  string          `json:"text"` // its exact text
	Reply *reply          `json:"reply"`
}

type outcome struct {
	Name        string           `json:"name"`
	Native      *json.RawMessage `json:"native"`
	Status      int              `json:"status"`
	ContentType string           `json:"content_type"`
	Body        string           `json:"body"`
}

var routes = map[string]gin.HandlerFunc{
	"/v1/chat/completions": middleware.ChatMiddleware(),
	"/v1/completions":      middleware.CompletionsMiddleware(),
	"/v1/embeddings":       middleware.EmbeddingsMiddleware(),
	"/v1/responses":        middleware.ResponsesMiddleware(),
	"/v1/messages":         middleware.AnthropicMessagesMiddleware(),
	"/v1/models":           middleware.ListMiddleware(),
	"/v1/models/:model":    middleware.RetrieveMiddleware(),
}

func run(c testCase) outcome {
	out := outcome{Name: c.Name}
	router := gin.New()
	path, method := c.Route, http.MethodPost
	pattern := c.Route
	if strings.HasPrefix(c.Route, "/v1/models") {
		method = http.MethodGet
		if c.Route != "/v1/models" {
			pattern = "/v1/models/:model"
		}
	}
	router.Handle(method, pattern, routes[pattern], func(g *gin.Context) {
		if g.Request.Body != nil {
			given, _ := io.ReadAll(g.Request.Body)
			if len(given) > 0 {
				raw := json.RawMessage(given)
				out.Native = &raw
			}
		}
		switch {
		case c.Reply == nil:
			g.Status(http.StatusNoContent)
		case c.Reply.Lines != nil:
			g.Header("Content-Type", "application/x-ndjson")
			for _, line := range c.Reply.Lines {
				g.Writer.Write(append(append([]byte{}, line...), '\n'))
			}
		default:
			g.Data(c.Reply.Status, "application/json; charset=utf-8", c.Reply.JSON)
		}
	})
	body := c.Text
	if c.JSON != nil {
		body = string(c.JSON)
	}
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	recorder := httptest.NewRecorder()
	router.ServeHTTP(recorder, request)
	out.Status, out.ContentType, out.Body = recorder.Code, recorder.Header().Get("Content-Type"), recorder.Body.String()
	return out
}

func main() {
	log.SetOutput(io.Discard)
	gin.SetMode(gin.ReleaseMode)
	gin.DefaultErrorWriter = io.Discard
	var cases []testCase
	given, err := os.ReadFile("../cases.json")
	if err != nil {
		panic(err)
	}
	if err := json.Unmarshal(given, &cases); err != nil {
		panic(err)
	}
	answers := make([]outcome, 0, len(cases))
	for _, c := range cases {
		answers = append(answers, run(c))
	}
	var written bytes.Buffer
	written.WriteString("[\n")
	for i, answer := range answers {
		row, err := json.Marshal(answer)
		if err != nil {
			panic(err)
		}
		if i > 0 {
			written.WriteString(",\n")
		}
		written.Write(row)
	}
	written.WriteString("\n]\n")
	if err := os.WriteFile("../expected.json", written.Bytes(), 0o644); err != nil {
		panic(err)
	}
}
