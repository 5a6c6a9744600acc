package main

func Example() {
	main()
	// Output:
	// api-1: 1000 lines, 10 errors
	// api-2: 1000 lines, 10 errors
	// web-1: 1000 lines, 10 errors
}
