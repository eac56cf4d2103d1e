package loadsim

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Client is the [Target] behind OpenAI's HTTP API: dunlin serve, llama-server,
// vLLM, Ollama and others. Each request has a connection of its own.
type Client struct {
	endpoint string
	model    string
	http     *http.Client
}

// Bounds of what a server may send.
const (
	maxEventBytes = 1 << 20 // a line of the stream
	maxErrorBytes = 4 << 10 // of an answer that isn't one
	maxUsage      = 1 << 40 // tokens
	piecesByToken = 16      // events with text for each token that was asked for
)

// Causes of failures, besides "HTTP" and a status.
const (
	causeConnection = "no connection"
	causeClosed     = "closed early"
	causeNoStream   = "not a stream of events"
	causeJunk       = "not what the API sends"
	causeReported   = "error in the stream"
)

// NewClient sends chats to a server such as http://127.0.0.1:8080, or to one whose
// address goes on with a path, with or without /v1. model is what requests name.
func NewClient(address, model string) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not an address such as http://127.0.0.1:8080", u.Redacted())
	}
	if !strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/v1") {
		u = u.JoinPath("v1")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives, transport.DisableCompression = true, true
	return &Client{
		endpoint: u.JoinPath("chat/completions").String(), model: model,
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

type chatRequest struct {
	Model         string        `json:"model"`
	Messages      []chatMessage `json:"messages"`
	MaxTokens     int           `json:"max_tokens"`
	Temperature   int           `json:"temperature"`
	Stream        bool          `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	IgnoreEOS bool `json:"ignore_eos,omitempty"`
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// chunk is what matters of an event.
type chunk struct {
	Choices []struct {
		Delta struct {
			Content string `json:"content"`
			// How servers name the thoughts of models that think aloud.
			ReasoningContent string `json:"reasoning_content"`
			Reasoning        string `json:"reasoning"`
		} `json:"delta"`
		FinishReason *string `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
		Details          *struct {
			CachedTokens *int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// Do sends one request and reads its stream.
func (c *Client) Do(ctx context.Context, req Request, piece func()) (u Usage, err error) {
	ask := chatRequest{
		Model: c.model, Messages: []chatMessage{{Role: "user", Content: req.Text}},
		MaxTokens: req.MaxTokens, Stream: true, IgnoreEOS: req.IgnoreEOS,
	}
	ask.StreamOptions.IncludeUsage = true
	body, err := json.Marshal(ask)
	if err != nil {
		return u, err
	}
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint, bytes.NewReader(body))
	if err != nil {
		return u, err
	}
	post.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(post)
	if err != nil {
		return u, &RequestError{Cause: causeConnection, Err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes)) // the status says enough
		return u, &RequestError{Cause: fmt.Sprintf("HTTP %d", resp.StatusCode), Err: errors.New(message(text))}
	}
	s := stream{left: piecesByToken*req.MaxTokens + 1024, piece: piece}
	err = s.read(resp.Body)
	return s.usage, err
}

// stream reads the events of an answer.
type stream struct {
	piece    func()
	left     int // pieces that may come
	began    bool
	finished bool // a choice had a reason for its end
	usage    Usage
}

func (s *stream) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEventBytes)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue // a comment, or a field that OpenAI's API doesn't use
		}
		s.began = true
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			s.finished = true
			return nil
		}
		if err := s.event(data); err != nil {
			return err
		}
	}
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return &RequestError{Cause: causeJunk, Err: fmt.Errorf("an event has more than %d bytes", maxEventBytes)}
	case err != nil:
		return &RequestError{Cause: causeClosed, Err: err}
	case !s.began:
		return &RequestError{Cause: causeNoStream, Err: errors.New("the answer has no events")}
	case !s.finished:
		return &RequestError{Cause: causeClosed, Err: io.ErrUnexpectedEOF}
	}
	return nil
}

// event takes the JSON of one event.
func (s *stream) event(data []byte) error {
	junk := func(err error) error { return &RequestError{Cause: causeJunk, Err: err} }
	var c chunk
	if err := json.Unmarshal(data, &c); err != nil {
		return junk(err)
	}
	if len(c.Error) > 0 && string(c.Error) != "null" {
		return &RequestError{Cause: causeReported, Err: errors.New(message(data))}
	}
	if len(c.Choices) > 1 {
		return junk(fmt.Errorf("%d choices, where one was asked for", len(c.Choices)))
	}
	for i := range c.Choices {
		delta := &c.Choices[i].Delta
		if delta.Content != "" || delta.ReasoningContent != "" || delta.Reasoning != "" {
			if s.left--; s.left < 0 {
				return junk(errors.New("far more text than was asked for"))
			}
			s.piece()
		}
		s.finished = s.finished || c.Choices[i].FinishReason != nil
	}
	if c.Usage == nil {
		return nil
	}
	s.usage = Usage{Prompt: c.Usage.PromptTokens, Output: c.Usage.CompletionTokens, Told: true}
	if d := c.Usage.Details; d != nil && d.CachedTokens != nil {
		s.usage.Cached, s.usage.CachedTold = *d.CachedTokens, true
	}
	for _, n := range []int{s.usage.Prompt, s.usage.Output, s.usage.Cached} {
		if n < 0 || n > maxUsage {
			return junk(fmt.Errorf("a usage of %d tokens", n))
		}
	}
	return nil
}

// message is what an error says, in OpenAI's form or in the server's own.
func message(text []byte) string {
	var openAI struct {
		Error struct {
			Message string `json:"message"`
		} `json:"error"`
	}
	if json.Unmarshal(text, &openAI) == nil && openAI.Error.Message != "" {
		return openAI.Error.Message
	}
	return string(bytes.TrimSpace(text))
}
