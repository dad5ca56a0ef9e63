//! The schema of `etcd_cluster`.

use super::{failure_domains, measured, model, preflight, recovering, restoring};
use crate::plugin::schema::{Attribute, Schema, Type};
use crate::resource::timeouts;

/// The schema.
pub fn schema() -> Schema {
    let mut attributes = model::shared_attributes();
    if let Some(name) = attributes.iter_mut().find(|attribute| attribute.name == "name") {
        name.requires_replace = true;
    }
    attributes.extend([
        Attribute::string("token").or_computed().use_state().describe(
            "Sets it apart from every other cluster: etcd's `initial-cluster-token`. Default: random.",
        ),
        Attribute::string("domain").or_computed().use_state().requires_replace().describe(
            "The domain of its members' names, which only its own servers know. Default: `<name>.etcd.internal`.",
        ),
        Attribute::number("heartbeat_interval").or_computed().use_state().describe(
            "etcd's heartbeat interval in ms. Default: the longest round trip between servers that the preflight measured, 100 at \
             least.",
        ),
        Attribute::number("election_timeout").or_computed().use_state().describe(
            "etcd's election timeout in ms. Default: ten times the longest round trip between servers that the preflight \
             measured, 1000 at least.",
        ),
        Attribute::bool("deletion_protection").describe(
            "Whether a plan that destroys the cluster is refused. Set it to false and apply before `terraform destroy`. Default: false.",
        ),
        preflight::attribute(),
        restoring::attribute(),
        recovering::attribute(),
        restoring::computed(),
        Attribute::string("id").computed().use_state().describe("The name."),
        Attribute::map_of("members", vec![
            Attribute::string("peer_url").computed().describe("The peer URL of its member, the same everywhere."),
            Attribute::string("client_url").computed().describe("The client URL of its member."),
            model::text_map("addresses")
                .computed()
                .describe("The address by which it dials each server, as its /etc/hosts has it."),
            Attribute::string("initial_cluster")
                .computed()
                .describe("Its own `initial-cluster`: the peer URLs by the addresses that it dials."),
        ])
        .computed()
        .use_state()
        .describe("What each server sees, by the server's name."),
        failure_domains::attribute(),
        Attribute::list("founders", Type::String)
            .computed()
            .use_state()
            .describe("The servers that found the cluster together. None for a cluster that was made by other means."),
        Attribute::string("adopted_from").computed().use_state().describe(
            "The service that ran its members before this provider took them over, such as `etcd.service`. Null for a cluster \
             that this provider made.",
        ),
        Attribute::string("founding").computed().use_state().describe(
            "What the last change of the cluster knew of its founding: `prepared` (every server had got its permit; whether the members have used \
             it, a plan asks the servers), `founded` (a quorum held data), or `stranded` (a refresh saw that the permits are gone, and that no server ever \
             got data: the next apply issues them again).",
        ),
        Attribute::object("certificate_authorities", model::authority_attributes(false))
            .computed()
            .use_state()
            .describe("Its certificate authorities. Private keys that it made itself are kept here and nowhere else."),
        Attribute::string("rotation").computed().describe(
            "How far the authorities have been replaced: `trusting` and `trusted` (members get to trust both, or do), `issuing` \
             and `issued` (certificates get issued by the new ones, or are). Null when nothing is being replaced.",
        ),
    ]);
    attributes.extend(measured::attributes());
    attributes.extend([timeouts::attribute(&[
        ("create", "How long to wait for servers. Default: `1m`."),
        ("update", "How long to wait for servers. Default: `1m`."),
        ("delete", "How long to wait for servers. Default: `20s`."),
    ])]);
    Schema {
        version: 0,
        description: "An etcd cluster whose servers may stand in different networks. It computes by which address \
                      every server dials every other one and writes that into their /etc/hosts.",
        attributes,
    }
}
