package mq

// Complete returns the config as OpenBroker uses it, with a value in every
// field, and what OpenBroker would refuse about it.
func (c BrokerConfig) Complete() (BrokerConfig, error) {
	c = c.withDefaults()
	return c, c.validate()
}

// Complete returns the config as Dial uses it, with a value in every field, and
// what Dial would refuse about it.
func (c ClientConfig) Complete() (ClientConfig, error) {
	c = c.withDefaults()
	return c, c.validate()
}

// Complete returns the config as NewProducer uses it, with a value in every
// field, and what NewProducer would refuse about it.
func (c ProducerConfig) Complete() (ProducerConfig, error) {
	c = c.withDefaults()
	return c, c.validate()
}

// Complete returns the config as NewConsumer uses it, with a value in every
// field, and what NewConsumer would refuse about it.
func (c ConsumerConfig) Complete() (ConsumerConfig, error) {
	c = c.withDefaults()
	return c, c.validate()
}
