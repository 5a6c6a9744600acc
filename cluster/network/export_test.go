package network

import (
	"io"
	"net"
)

// What tests of the outside need to play a broker that does not behave.

const (
	KindPing     = byte(kindPing)
	KindMessages = byte(kindMessages)
	KindChunk    = byte(kindChunk)
	KindRequest  = byte(kindRequest)
	KindAnswer   = byte(kindAnswer)
	KindCancel   = byte(kindCancel)

	ClassRaft     = byte(classRaft)
	ClassSnapshot = byte(classSnapshot)
	ClassCalls    = byte(classCalls)
)

// Frame makes a frame.
func Frame(k byte, body []byte) []byte { return seal(append(newFrame(kind(k), len(body)), body...)) }

// ReadFrame reads one.
func ReadFrame(r io.Reader) (byte, []byte, error) {
	k, body, err := readFrame(r, 1<<20, nil)
	return byte(k), body, err
}

// Hello makes a greeting that speaks version oldest and newer.
func Hello(cl byte, from Identity, to string, oldest byte) []byte {
	b := hello{class: class(cl), from: from, to: to}.encode()
	b = b[:len(b)-4]
	b[4], b[5] = max(newestVersion, oldest), oldest
	return endGreeting(b)
}

// AcceptHello greets whoever has dialled.
func AcceptHello(nc net.Conn, self Identity) error {
	if _, _, err := readHello(nc); err != nil {
		return err
	}
	_, err := nc.Write(welcome{from: self}.encode())
	return err
}

// ReadWelcome reads the answer to a hello and returns the refusal if it is one.
func ReadWelcome(r io.Reader) (Identity, error) {
	w, _, err := readWelcome(r)
	if err != nil {
		return Identity{}, err
	}
	if r := w.refused(); r != nil {
		return w.from, r
	}
	return w.from, nil
}
