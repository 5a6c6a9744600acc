package main

func Example() {
	main()
	// Output:
	// transformer: crashed; what it wrote last will be written again
	// database: north 9900, south 9672
}
