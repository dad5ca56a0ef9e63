//! The wire messages and services, compiled from `proto/` by `build.rs`.

#![allow(missing_docs, clippy::doc_markdown, clippy::large_enum_variant)]

/// Terraform's provider protocol.
pub mod tfplugin6 {
    tonic::include_proto!("tfplugin6");
}

/// What go-plugin expects beside the provider.
pub mod go_plugin {
    tonic::include_proto!("plugin");
}

/// gRPC's health protocol.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
