module loupe/dialects

go 1.26.0

require (
	github.com/gin-gonic/gin v1.10.0
	github.com/ollama/ollama v0.0.0
)
