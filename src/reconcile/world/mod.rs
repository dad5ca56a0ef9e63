//! Whole clusters, simulated: random servers, wishes, faults and interruptions. The loops are those that ship ([`super::leave`]); what is not
//! one of them yet ([`bring_up`], [`establish`]) is simulated step by step, as the code under `resource/` performs it. A violation of what must
//! always hold ends the story.
//!
//! * [`machine`], [`history`], [`etcd`]: servers, what the members agree on, and etcd's own doing.
//! * [`leave`]: performs the steps of the loop that ships.
//! * [`turn`], [`bring_up`], [`establish`]: the other calls of the provider, step by step.
//! * [`terraform`]: refresh, plan, and the calls in any order.
//! * [`rules`]: what must hold whenever the provider acts.
//! * [`story`]: what the user wants, what happens meanwhile, and how it ends. [`shared`]: time.
//!
//! `WORLD_STORIES=100000 cargo test --lib reconcile::world` tells that many new ones.

mod bring_up;
mod call;
mod chance;
mod establish;
mod etcd;
mod history;
mod leave;
mod machine;
mod rules;
mod shared;
mod story;
mod terraform;
mod turn;

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use story::{End, Stage, any_story};

fn stories() -> u32 {
    let given = std::env::var("WORLD_STORIES").ok();
    given.and_then(|number| number.parse().ok()).unwrap_or(2000)
}

#[test]
fn no_story_ends_badly() {
    let config = Config {
        cases: stories(),
        max_shrink_iters: 20_000,
        max_shrink_time: 20_000,
        source_file: Some(file!()),
        ..Config::default()
    };
    // The same stories each time, unless more are asked for: those are new ones.
    let mut runner = match std::env::var_os("WORLD_STORIES") {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let outcome = runner.run(&any_story(), |story| match Stage::new(&story).play(&story) {
        Ok(_) => Ok(()),
        Err(violation) => Err(TestCaseError::fail(violation)),
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(violation, story)) => panic!("{violation}\n{story:#?}\n{}", Stage::told(&story)),
        Err(failed) => panic!("{failed}"),
    }
}

/// The stories are about something: each of these comes about, and most stories end as it was wished.
#[test]
fn the_stories_tell_of_everything() {
    let mut runner = TestRunner::deterministic();
    let (mut seen, mut whole) = (BTreeMap::new(), 0);
    for _ in 0..400 {
        let story = any_story().new_tree(&mut runner).unwrap().current();
        let mut stage = Stage::new(&story);
        let end = stage.play(&story);
        whole += usize::from(matches!(end, Ok(End::Whole | End::WholeAfter(_))));
        for (what, times) in std::mem::take(&mut stage.world.lock().seen) {
            *seen.entry(what).or_insert(0) += times;
        }
    }
    for what in [
        "found",
        "permits",
        "join",
        "write",
        "restart",
        "snapshot",
        "leader moved",
        "voter removed",
        "learner removed",
        "set aside",
        "waited for the lock",
        "waited for a successor",
        "stopped together",
        "left to rest",
        "started out of turn",
        "kept in the map",
    ] {
        assert!(seen.get(what).is_some_and(|times| *times > 0), "{what}: {seen:?}");
    }
    assert!(whole > 250, "{whole} of 400 ended as it was wished: {seen:?}");
}
