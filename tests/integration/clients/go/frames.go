package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"strconv"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	streamID     = 1
	frameBytes   = 16 * 1024
	quietSeconds = 2
)

// onFrames makes a call of bare HTTP/2 frames and never half-closes: what the server sends to end
// the stream is seen as it is, without a client library's opinion of it.
func onFrames(address string, one Case) (Ended, error) {
	ended := Ended{Case: one.Name, Code: -1}
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return ended, err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return ended, err
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		return ended, err
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: streamID, BlockFragment: headers(address, one), EndHeaders: true,
	}); err != nil {
		return ended, err
	}
	body := stream(one)
	streamWindow, connWindow, initial := 65535, 65535, 65535
	for {
		// What fits into both windows goes out before anything is read.
		for len(body) > 0 && streamWindow > 0 && connWindow > 0 && ended.Code < 0 {
			size := min(len(body), frameBytes, streamWindow, connWindow)
			if err := framer.WriteData(streamID, false, body[:size]); err != nil {
				return ended, err
			}
			body, streamWindow, connWindow = body[size:], streamWindow-size, connWindow-size
		}
		wait := 20 * time.Second
		if ended.Code >= 0 {
			wait = quietSeconds * time.Second // only RST_STREAM may follow
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return ended, err
		}
		frame, err := framer.ReadFrame()
		if err != nil {
			if ended.Code >= 0 {
				return ended, nil
			}
			return ended, err
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				if value, ok := frame.Value(http2.SettingInitialWindowSize); ok {
					streamWindow += int(value) - initial
					initial = int(value)
				}
				if err := framer.WriteSettingsAck(); err != nil {
					return ended, err
				}
			}
		case *http2.WindowUpdateFrame:
			if frame.StreamID == 0 {
				connWindow += int(frame.Increment)
			} else {
				streamWindow += int(frame.Increment)
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				if err := framer.WritePing(true, frame.Data); err != nil {
					return ended, err
				}
			}
		case *http2.MetaHeadersFrame:
			if !frame.StreamEnded() {
				ended.Frames = append(ended.Frames, "HEADERS")
				continue
			}
			ended.Frames = append(ended.Frames, "TRAILERS")
			if err := readTrailers(frame, &ended); err != nil {
				return ended, err
			}
		case *http2.DataFrame:
			ended.Frames = append(ended.Frames, "DATA")
		case *http2.RSTStreamFrame:
			ended.Frames = append(ended.Frames, "RST_STREAM "+frame.ErrCode.String())
			return ended, nil
		case *http2.GoAwayFrame:
			return ended, fmt.Errorf("GOAWAY %s", frame.ErrCode)
		}
	}
}

func headers(address string, one Case) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: one.Method},
		{Name: ":authority", Value: address},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	}
	for name, value := range one.Metadata {
		fields = append(fields, hpack.HeaderField{Name: name, Value: value})
	}
	for _, field := range fields {
		_ = encoder.WriteField(field) // to a buffer: cannot fail
	}
	return block.Bytes()
}

// stream is the messages as gRPC frames them, and a flood far beyond every window.
func stream(one Case) []byte {
	var body bytes.Buffer
	messages := one.Messages
	for size := 0; one.Flood != nil && size < 64<<20; size += len(one.Flood) {
		messages = append(messages, one.Flood)
	}
	for _, message := range messages {
		body.WriteByte(0)
		_ = binary.Write(&body, binary.BigEndian, uint32(len(message)))
		body.Write(message)
	}
	return body.Bytes()
}

func readTrailers(frame *http2.MetaHeadersFrame, ended *Ended) error {
	for _, field := range frame.Fields {
		var err error
		switch field.Name {
		case "grpc-status":
			ended.Code, err = strconv.Atoi(field.Value)
		case "grpc-status-details-bin":
			ended.Status, err = base64.RawStdEncoding.DecodeString(
				string(bytes.TrimRight([]byte(field.Value), "=")))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
