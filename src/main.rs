//! The provider's binary.

use std::process::ExitCode;

use terraform_provider_etcd::plugin::serve::{About, serve};
use terraform_provider_etcd::provider;

fn main() -> ExitCode {
    let about = About {
        source: "crossnet/etcd",
        version: env!("CARGO_PKG_VERSION"),
    };
    serve(about, provider::provider())
}
