//! Compiles the two protocols from `proto/` without an installed protoc.
fn main() {}
