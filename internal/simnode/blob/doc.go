// Package blob knows files by their digest without keeping them.
//
// A simulated node or registry takes files of gigabytes and must stay small. Of each it keeps the digest, the size and
// the first KiB; the content only up to SmallLimit. Weights of simulated models are stand-ins: bytes that say of
// themselves whose place they take, and that can be made again from a few hundred bytes.
//
// A stand-in begins as a GGUF file does, names a digest in a line of JSON, and repeats that digest up to its size. Its
// SHA-256 is another one, of course. A Digester takes a stand-in at its word as long as every byte of it is right;
// whoever else hashes it sees that it is none of the file. So a model of any size and any digest costs nothing to hash,
// keep or send.
package blob
