// Checks seals and a log with the Go implementations of the C2SP formats, which share no code with Sealwarden:
// golang.org/x/mod/sumdb (signed notes, Merkle trees) and filippo.io/torchwood (tlog-proof, tlog-tiles, tlog-cosignature).
//
//	interop POLICY LOG-URL SEAL...
//
// POLICY is a C2SP tlog-policy file, LOG-URL the prefix of the log's checkpoint and tiles. All entries are fetched and rebuilt into the signed
// root; then each seal is checked against its own entry, and against another's, where it must fail. It prints one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: interop POLICY LOG-URL SEAL...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "interop:", err)
		os.Exit(1)
	}
}

func run(policyFile, url string, seals []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	text, err := os.ReadFile(policyFile)
	if err != nil {
		return err
	}
	policy, err := torchwood.ParsePolicy(text)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	checkpoint, entries, err := fetch(ctx, policy, url)
	if err != nil {
		return err
	}
	for _, path := range seals {
		if err := check(policy, entries, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"origin": checkpoint.Origin, "size": checkpoint.N, "entries": len(entries), "seals": len(seals),
	})
}

// fetch verifies the checkpoint under the policy and each entry under the checkpoint.
func fetch(ctx context.Context, policy torchwood.Policy, url string) (torchwood.Checkpoint, [][]byte, error) {
	fetcher, err := torchwood.NewTileFetcher(url)
	if err != nil {
		return torchwood.Checkpoint{}, nil, err
	}
	signed, err := fetcher.ReadEndpoint(ctx, "checkpoint")
	if err != nil {
		return torchwood.Checkpoint{}, nil, err
	}
	checkpoint, _, err := torchwood.VerifyCheckpoint(signed, policy)
	if err != nil {
		return checkpoint, nil, fmt.Errorf("checkpoint: %w", err)
	}
	client, err := torchwood.NewClient(fetcher)
	if err != nil {
		return checkpoint, nil, err
	}
	var entries [][]byte
	for _, entry := range client.AllEntries(ctx, checkpoint.Tree, 0) {
		entries = append(entries, entry)
	}
	if err := client.Err(); err != nil {
		return checkpoint, nil, fmt.Errorf("entries: %w", err)
	}
	if int64(len(entries)) != checkpoint.N {
		return checkpoint, nil, fmt.Errorf("%d entries in a tree of %d", len(entries), checkpoint.N)
	}
	return checkpoint, entries, nil
}

// check holds a seal against the entry at its index, and against one that is not it.
func check(policy torchwood.Policy, entries [][]byte, path string) error {
	seal, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	index, err := indexOf(string(seal))
	if err != nil {
		return err
	}
	if index >= len(entries) {
		return fmt.Errorf("index %d, but the log has %d entries", index, len(entries))
	}
	if err := torchwood.VerifyProof(policy, tlog.RecordHash(entries[index]), seal); err != nil {
		return err
	}
	var wrong *torchwood.VerifyRecordError
	if err := torchwood.VerifyProof(policy, tlog.RecordHash([]byte("another entry")), seal); !errors.As(err, &wrong) {
		return fmt.Errorf("it also proves an entry that is not its own: %v", err)
	}
	return nil
}

func indexOf(seal string) (int, error) {
	for line := range strings.Lines(seal) {
		if number, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "index "); ok {
			return strconv.Atoi(number)
		}
	}
	return 0, errors.New("no index line")
}
