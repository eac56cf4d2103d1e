package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/dunlin-go/dunlin/models/hub"
)

// exitInterrupted is what shells report for a program that Ctrl-C ended.
const exitInterrupted = 130

// commands is the command line.
type commands struct {
	Run        runCmd        `cmd:"" help:"Answer a prompt."`
	Serve      serveCmd      `cmd:"" help:"Serve models over OpenAI's HTTP API."`
	Pull       pullCmd       `cmd:"" help:"Fetch a model of the catalogue into the cache and print its path."`
	Inspect    inspectCmd    `cmd:"" help:"Show a model file's metadata and tensors, or the memory of processes."`
	Tokenize   tokenizeCmd   `cmd:"" help:"Show the tokens of a text."`
	Logits     logitsCmd     `cmd:"" help:"Show what a model thinks of a text."`
	Perplexity perplexityCmd `cmd:"" help:"Measure how well a model predicts a text."`
	Verify     verifyCmd     `cmd:"" help:"Compare a model's logits with those of Hugging Face Transformers."`
	Bench      benchCmd      `cmd:"" help:"Measure a model's speed."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// stdio is what a command reads and writes.
type stdio struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	os.Exit(dunlin(os.Args[1:], &stdio{os.Stdin, os.Stdout, os.Stderr}))
}

// dunlin runs one command line and returns the exit code.
func dunlin(args []string, std *stdio) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once

	var cmds commands
	parser, err := kong.New(&cmds,
		kong.Name("dunlin"),
		kong.Description("Language models inside one Go process: no server, no shared library, no cgo."),
		kong.Writers(std.out, std.err),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(std),
		kong.Vars{
			"default_model": hub.DefaultName, "default_temp": fmt.Sprint(defaultTemperature),
			"kl_int8": fmt.Sprint(int8Bounds.KL), "kl_f32": fmt.Sprint(f32Bounds.KL),
			"agreement_int8": fmt.Sprint(int8Bounds.Agreement), "agreement_f32": fmt.Sprint(f32Bounds.Agreement),
		},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		return complain(std.err, err)
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return complain(std.err, fmt.Errorf("%w (see dunlin --help)", err))
	}
	err = parsed.Run()
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(std.err, "dunlin: interrupted")
		return exitInterrupted
	}
	return complain(std.err, err)
}

// complain prints an error as one line.
func complain(w io.Writer, err error) int {
	line := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar // a terminal might obey it
	}, strings.Join(strings.Fields(err.Error()), " "))
	fmt.Fprintln(w, "dunlin: "+line)
	return 1
}
