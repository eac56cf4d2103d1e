package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/schollz/progressbar/v3"

	"github.com/dunlin-go/dunlin/models/hub"
)

// pullCmd fetches a model.
type pullCmd struct {
	Name  string `arg:"" optional:"" default:"${default_model}" help:"Name in the catalogue (default: ${default})."`
	Quiet bool   `short:"q" help:"Show no progress."`
}

// Run fetches the model and prints its path.
func (c *pullCmd) Run(ctx context.Context, std *stdio) error {
	p := &pullProgress{w: std.err}
	if c.Quiet {
		p.w = io.Discard
	}
	path, err := hub.Pull(ctx, c.Name, p.report)
	p.finish()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(std.out, path)
	return err
}

// pullProgress shows one bar for each stage of a pull, on a terminal; in a log
// it is one line for each.
type pullProgress struct {
	w     io.Writer
	bar   *progressbar.ProgressBar
	stage hub.Stage
	begun bool
}

func (p *pullProgress) report(at hub.Progress) {
	if !p.begun || at.Stage != p.stage {
		p.finish()
		p.begun, p.stage = true, at.Stage
		p.begin(at)
	}
	if p.bar != nil {
		_ = p.bar.Set64(at.Done) // a bar that can't be drawn is no reason to stop
	}
}

func (p *pullProgress) begin(at hub.Progress) {
	f, ok := p.w.(*os.File)
	if !ok || !isatty.IsTerminal(f.Fd()) || at.Total == 0 {
		line := at.Stage.String()
		if at.Total > 0 {
			line += " " + humanBytes(at.Total)
		} else {
			line += " for another process that is fetching it"
		}
		fmt.Fprintln(p.w, line)
		return
	}
	p.bar = progressbar.NewOptions64(at.Total,
		progressbar.OptionSetWriter(p.w),
		progressbar.OptionSetDescription(fmt.Sprintf("%-9s", at.Stage)),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionOnCompletion(func() { fmt.Fprintln(p.w) }),
	)
}

// finish leaves the terminal's cursor on a line of its own.
func (p *pullProgress) finish() {
	if p.bar == nil {
		return
	}
	if !p.bar.IsFinished() {
		_ = p.bar.Exit() // as in report
	}
	p.bar = nil
}
