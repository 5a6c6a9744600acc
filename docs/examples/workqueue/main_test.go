package main

func Example() {
	main()
	// Output:
	// job 7 of ken is given up: out of paper
	// 0 jobs left
}
