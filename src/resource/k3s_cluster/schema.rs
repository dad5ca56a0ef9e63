//! The schema of `etcd_k3s_cluster`.

use crate::plugin::schema::{Attribute, Schema};
use crate::resource::cluster::model::text_map;
use crate::resource::k3s::model;
use crate::resource::timeouts;

/// The schema.
pub fn schema() -> Schema {
    let mut attributes = model::shared_attributes();
    for attribute in &mut attributes {
        attribute.requires_replace = ["name", "datastore"].contains(&attribute.name);
    }
    let computed = |attribute: Attribute| attribute.computed().use_state();
    attributes.extend([
        Attribute::string("pool").default(model::POOL).describe(
            "Addresses for members whose servers' private addresses are not unique. Nothing else in your networks may use them. \
             Default: `100.64.77.0/24`.",
        ),
        Attribute::string("token").or_computed().use_state().sensitive().describe(
            "The secret that servers and agents join with. Default: random. It can't be changed once there are servers.",
        ),
        Attribute::string("token_wo").write_only().sensitive().describe(
            "The same, never stored; every `etcd_k3s_server` needs it too then (Terraform 1.11 and later).",
        ),
        model::ports_attribute("join_ports").describe(
            "Ports at which a server reaches those of its own network by their private address though it was given the public one, \
             past routers without hairpin. Default: `[6443]`; RKE2 has 9345 too.",
        ),
        Attribute::string("service").default("k3s.service").describe(
            "The service before which addresses are put into place at boot. Default: `k3s.service`.",
        ),
        computed(Attribute::string("id")).describe("What sets it apart from every other cluster: random."),
        Attribute::bool("deletion_protection").describe(
            "Whether a plan that destroys the cluster is refused. Set it to false and apply before `terraform destroy`. Default: false.",
        ),
        text_map("addresses").computed().describe(
            "The address of every server's etcd member, the same text everywhere. etcd has stored it, so it stays. None with a `datastore`.",
        ),
        text_map("rules").computed().describe("What each server has nftables do, as it is in force there."),
        text_map("urls").computed().describe("Where each server is reached by agents, `kubectl` and other servers of other networks."),
        computed(Attribute::string("founding")).describe(
            "What the last change of the cluster knew of its founding: `prepared` (a server had got the permit; whether it has used it, a plan asks the \
             servers), `founded` (a server held data), or `stranded` (a refresh saw that the permit is gone, and that no server ever got data: the next apply \
             issues it again).",
        ),
        timeouts::attribute(&[
            ("create", "How long to wait for servers. Default: `1m`."),
            ("update", "How long to wait for servers. Default: `1m`."),
            ("delete", "How long to wait for servers. Default: `20s`."),
        ]),
    ]);
    Schema {
        version: 0,
        description: "What the servers of a k3s cluster share whose embedded etcd spans networks: the token, an address for every member, and \
                      on each server the translation that makes it reach the others.",
        attributes,
    }
}
