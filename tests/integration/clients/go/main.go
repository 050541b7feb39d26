// Calls a server that refuses, while it still sends, and prints how each call ended.
//
//	refusals ADDRESS < cases.json
//	refusals ADDRESS METHOD
//
// The second form calls one method that it finds by reflection.
//
// One line of JSON per call: the case, the status code, google.rpc.Status as bytes, and, for calls
// made of bare HTTP/2 frames, the frames that ended the stream.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Case is one call. Its messages are serialized already; Flood goes on until the call ends.
type Case struct {
	Name          string            `json:"name"`
	Method        string            `json:"method"`
	ClientStreams bool              `json:"client_streams"`
	ServerStreams bool              `json:"server_streams"`
	Metadata      map[string]string `json:"metadata"`
	Messages      [][]byte          `json:"messages"`
	Flood         []byte            `json:"flood"`
	Times         int               `json:"times"`
}

// Ended is how a call ended.
type Ended struct {
	Case   string   `json:"case"`
	Code   int      `json:"code"`
	Status []byte   `json:"status"`
	Frames []string `json:"frames,omitempty"`
}

// rawCodec hands the bytes of a message through.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (rawCodec) Name() string { return "proto" }

func call(ctx context.Context, conn *grpc.ClientConn, one Case) error {
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(one.Metadata))
	var answer []byte
	if !one.ClientStreams && !one.ServerStreams {
		return conn.Invoke(ctx, one.Method, &one.Messages[0], &answer)
	}
	kind := &grpc.StreamDesc{ClientStreams: one.ClientStreams, ServerStreams: one.ServerStreams}
	stream, err := conn.NewStream(ctx, kind, one.Method)
	if err != nil {
		return err
	}
	go send(stream, one)
	for {
		if err := stream.RecvMsg(&answer); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// send writes until the call ends: its status is what RecvMsg returns.
func send(stream grpc.ClientStream, one Case) {
	for _, message := range one.Messages {
		if stream.SendMsg(&message) != nil {
			return
		}
	}
	for one.Flood != nil {
		if stream.SendMsg(&one.Flood) != nil {
			return
		}
	}
	_ = stream.CloseSend()
}

func run(address string) error {
	var cases []Case
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		return err
	}
	conn, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	out := json.NewEncoder(os.Stdout)
	for _, one := range cases {
		for range one.Times {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			ended := status.Convert(call(ctx, conn, one))
			cancel()
			wire, err := proto.Marshal(ended.Proto())
			if err != nil {
				return err
			}
			if err := out.Encode(Ended{Case: one.Name, Code: int(ended.Code()), Status: wire}); err != nil {
				return err
			}
		}
		if !one.ClientStreams {
			continue
		}
		ended, err := onFrames(address, one)
		if err != nil {
			return fmt.Errorf("%s on bare frames: %w", one.Name, err)
		}
		if err := out.Encode(ended); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	var err error
	if len(os.Args) > 2 {
		err = callByName(os.Args[1], os.Args[2])
	} else {
		err = run(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
