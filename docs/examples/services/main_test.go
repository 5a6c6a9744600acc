package main

func Example() {
	main()
	// Unordered output:
	// shipping: packs a lamp for o-1
	// shipping: packs a chair for o-2
	// shipping: packs a table for o-3
	// billing: charges 25.00 for o-1
	// billing: tries again: handler failed at orders/0@1: the bank does not answer
	// billing: charges 80.00 for o-2
	// billing: charges 199.00 for o-3
}
