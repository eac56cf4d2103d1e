//go:build linux && (amd64 || arm64)

package ffi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/dunlin-go/dunlin/cbind"
	"github.com/dunlin-go/dunlin/cbind/internal/device"
)

// server is a model behind JSON over HTTP.
type server struct {
	url    string
	client *http.Client
	bytes  int64 // on the wire, both ways
}

// counted is a connection whose bytes are counted.
type counted struct {
	net.Conn
	bytes *int64
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	*c.bytes += int64(n)
	return n, err
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	*c.bytes += int64(n)
	return n, err
}

func serve(b *testing.B) *server {
	b.Helper()
	paths, err := device.Find("")
	must(b, paths, err)
	cmd := exec.Command(paths.Python, "../../testdata/http_server.py", smollm2(b), fmt.Sprint(threads))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(b, in, err)
	out, err := cmd.StdoutPipe()
	must(b, out, err)
	must(b, 0, cmd.Start())
	b.Cleanup(func() {
		_ = in.Close()
		must(b, 0, cmd.Wait())
	})
	var port int
	_, err = fmt.Fscan(out, &port)
	must(b, port, err)
	s := &server{url: fmt.Sprintf("http://127.0.0.1:%d/", port)}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return counted{c, &s.bytes}, err
	}}
	b.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport}
	return s
}

// infer is a forward, from the ids to a slice of logits.
func (s *server) infer(b *testing.B, ids []int32, last bool) time.Duration {
	s.bytes = 0
	return timed(func() {
		body, err := json.Marshal(map[string]any{"ids": ids, "last": last})
		must(b, body, err)
		resp, err := s.client.Post(s.url, "application/json", bytes.NewReader(body))
		must(b, resp, err)
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		must(b, text, err)
		var got struct{ Logits [][]float32 }
		must(b, 0, json.Unmarshal(text, &got))
		if want := map[bool]int{false: len(ids), true: 1}[last]; len(got.Logits) != want {
			b.Fatalf("there are logits of %d tokens, not %d", len(got.Logits), want)
		}
	})
}

// BenchmarkInferBesideHTTP: the same forward through the bridge, and through a server of the
// usual kind.
func BenchmarkInferBesideHTTP(b *testing.B) {
	m, isolated, ids, s := open(b), open(b, cbind.Isolated()), text(tokens), serve(b)
	var all, last int64
	compare(b, []way{
		{"here", func() time.Duration { return infer(b, m, ids) }},
		{"isolated", func() time.Duration { return infer(b, isolated, ids) }},
		{"http-all", func() time.Duration { took := s.infer(b, ids, false); all = s.bytes; return took }},
		{"http-last", func() time.Duration { took := s.infer(b, ids, true); last = s.bytes; return took }},
	})
	b.ReportMetric(float64(all), "http-all-B")
	b.ReportMetric(float64(last), "http-last-B")
}
