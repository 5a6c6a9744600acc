package storage

// Seal lets tests make files of other versions.
var Seal = seal
