package main

import "github.com/spf13/pflag"

// tlsOptions are the flags that say how to reach a broker that has TLS: short for
// -X broker.client_tls.*, above which they stand.
type tlsOptions struct {
	ca, cert, key, serverName string
	insecure                  bool
}

func tlsFlags(p *program, flags *pflag.FlagSet) {
	flags.StringVar(&p.tls.ca, "tls-ca", "", "PEM `file` of who signs brokers' certificates; turns on TLS")
	flags.StringVar(&p.tls.cert, "tls-cert", "", "PEM `file` of the certificate to show to brokers")
	flags.StringVar(&p.tls.key, "tls-key", "", "PEM `file` of its key")
	flags.StringVar(&p.tls.serverName, "tls-server-name", "", "`name` in brokers' certificates, if not that of the address")
	flags.BoolVar(&p.tls.insecure, "tls-insecure", false, "take whoever answers for the broker")
}

func (t tlsOptions) overrides() (out []string) {
	add := func(key, value string) {
		if value != "" {
			out = append(out, "broker.client_tls."+key+"="+value)
		}
	}
	add("ca_file", t.ca)
	add("cert_file", t.cert)
	add("key_file", t.key)
	add("server_name", t.serverName)
	if t.insecure {
		add("insecure_skip_verify", "true")
	}
	return out
}
