//! Compiles the protocols in `proto/` with protox, so that no installed protoc is needed.

use std::error::Error;

const PROTOCOLS: [&str; 3] = ["tfplugin6.proto", "go_plugin.proto", "health.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in PROTOCOLS {
        println!("cargo::rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(PROTOCOLS, ["proto"])?;
    // The client side serves the protocol tests.
    tonic_prost_build::configure()
        .build_server(true)
        .build_client(true)
        .btree_map(".")
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
