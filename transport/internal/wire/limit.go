package wire

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// MaxEntries is how many entries the lists and maps of one request may have in
// all. An entry takes two bytes to send and hundreds to hold, so that a limit
// of bytes alone would not bound what a request costs.
const MaxEntries = 10_000

// leastEntry is the least that an entry takes on the wire: tag and length.
const leastEntry = 2

// overlong marks a request that had too many entries: an unknown field, which
// is what is left of them.
var overlong = protowire.AppendVarint(protowire.AppendTag(nil, protowire.MaxValidNumber, protowire.VarintType), 1)

// UnmarshalRequest is proto.Unmarshal for the requests of clients, into an
// empty m. One of more than MaxEntries entries gets only its plain numbers,
// such as the correlation id, and DecodeRequest refuses it: the entries are
// counted before memory is spent on them.
func UnmarshalRequest(data []byte, m proto.Message) error {
	if len(data) <= leastEntry*MaxEntries || countEntries(data, m.ProtoReflect().Descriptor(), MaxEntries) <= MaxEntries {
		return proto.Unmarshal(data, m)
	}
	if err := proto.Unmarshal(numbers(data), m); err != nil {
		return err
	}
	m.ProtoReflect().SetUnknown(overlong)
	return nil
}

func isOverlong(m any) bool {
	pm, ok := m.(proto.Message)
	return ok && bytes.Equal(pm.ProtoReflect().GetUnknown(), overlong)
}

// countEntries counts the entries of lists and maps at any depth, and stops
// above most. What is not readable ends the count: unmarshalling ends there
// as well.
func countEntries(data []byte, of protoreflect.MessageDescriptor, most int) (n int) {
	for len(data) > 0 && n <= most {
		number, kind, tag := protowire.ConsumeTag(data)
		if tag < 0 {
			break
		}
		size := protowire.ConsumeFieldValue(number, kind, data[tag:])
		if size < 0 {
			break
		}
		value := data[tag : tag+size]
		data = data[tag+size:]
		field := of.Fields().ByNumber(number)
		if field == nil {
			continue
		}
		if field.Cardinality() == protoreflect.Repeated {
			n++
		}
		if kind == protowire.BytesType && field.Message() != nil {
			body, _ := protowire.ConsumeBytes(value)
			n += countEntries(body, field.Message(), most-n)
		}
	}
	return n
}

// numbers picks the varint fields of a message.
func numbers(data []byte) (out []byte) {
	for len(data) > 0 {
		_, kind, size := protowire.ConsumeField(data)
		if size < 0 {
			break
		}
		if kind == protowire.VarintType {
			out = append(out, data[:size]...)
		}
		data = data[size:]
	}
	return out
}
