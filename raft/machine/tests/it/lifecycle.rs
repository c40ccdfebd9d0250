//! The life cycle of authorities on a modelled cluster: random commands, changes of leader, failures of members and steps of
//! clocks, with the invariants that are about authorities checked after each step (INV-05, INV-06, INV-09, and that no step
//! of the life cycle is taken twice).
//!
//! The model is what surrounds the pure rules: members that apply the log in their own time, sign with what they have
//! applied, and hand SVIDs to workloads; a leader that does what is due, asks the gate, and may be replaced between any
//! two of its acts. It can be driven with a fault planted in it; that each of them is found is a test of its own.

mod model;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use model::{Bug, Model, Violation};

/// One step, in terms of choices; what it becomes depends on what it meets.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes, in seconds.
    Pass(u8),
    /// A member's clock is set off by so many seconds; never by more than lets a member sign (design section 4, clocks).
    Clock(u8, i8),
    /// A member loses its connection, or finds it again.
    Cut(u8),
    Heal(u8),
    /// A member's process starts again: its issuing key is lost.
    Restart(u8),
    /// Another member leads.
    Lead(u8),
    /// The leader decides what to do next, of all that is due.
    Decide(u8),
    /// A leader goes on with what it has decided.
    Carry(u8),
    /// What a leader proposed to prepare before it was replaced is applied at last.
    Land(u8),
    /// An operator wants something.
    Prepare(bool),
    Activate(bool),
    Taint(bool, u8),
    Revoke(bool, u8),
    Replace(bool, bool),
    Fence(u8),
    /// A member applies what has been committed, and its streams fetch what there is.
    Apply(u8),
    Push(u8),
    /// A member asks for an issuing certificate.
    Renew(u8),
    /// A workload fetches an SVID and a token at a member.
    Fetch(u8),
    /// Somebody elsewhere comes by at a member's bundle endpoint.
    Read(u8),
    /// All members that are connected catch up, and have certificates.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let member = || 0..model::MEMBERS;
    prop_oneof![
        6 => (1..25_u8).prop_map(Step::Pass),
        1 => (member(), -2..=2_i8).prop_map(|(member, off)| Step::Clock(member, off)),
        2 => member().prop_map(Step::Cut),
        2 => member().prop_map(Step::Heal),
        1 => member().prop_map(Step::Restart),
        2 => member().prop_map(Step::Lead),
        10 => any::<u8>().prop_map(Step::Decide),
        10 => any::<u8>().prop_map(Step::Carry),
        2 => any::<u8>().prop_map(Step::Land),
        1 => any::<bool>().prop_map(Step::Prepare),
        1 => any::<bool>().prop_map(Step::Activate),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(x509, pick)| Step::Taint(x509, pick)),
        1 => (any::<bool>(), any::<u8>()).prop_map(|(x509, pick)| Step::Revoke(x509, pick)),
        2 => (any::<bool>(), any::<bool>()).prop_map(|(x509, compromised)| Step::Replace(x509, compromised)),
        1 => member().prop_map(Step::Fence),
        4 => member().prop_map(Step::Apply),
        3 => member().prop_map(Step::Push),
        3 => member().prop_map(Step::Renew),
        8 => member().prop_map(Step::Fetch),
        4 => member().prop_map(Step::Read),
        5 => Just(Step::Settle),
    ]
}

fn drive(bug: Option<Bug>, serves: bool, steps: &[Step]) -> Result<Model, Violation> {
    let mut model = Model::new(bug, serves);
    for step in steps {
        match step {
            Step::Pass(seconds) => model.pass(i64::from(*seconds)),
            Step::Clock(member, off) => model.clock(*member, i64::from(*off)),
            Step::Cut(member) => model.cut(*member),
            Step::Heal(member) => model.heal(*member),
            Step::Restart(member) => model.restart(*member),
            Step::Lead(member) => model.lead(*member),
            Step::Decide(pick) => model.decide(*pick),
            Step::Carry(pick) => model.carry(*pick)?,
            Step::Land(pick) => model.land(*pick)?,
            Step::Prepare(x509) => model.prepare(model::kind(*x509)),
            Step::Activate(x509) => model.activate(model::kind(*x509)),
            Step::Taint(x509, pick) => model.taint(model::kind(*x509), *pick),
            Step::Revoke(x509, pick) => model.revoke(model::kind(*x509), *pick),
            Step::Replace(x509, compromised) => model.replace(model::kind(*x509), *compromised),
            Step::Fence(member) => model.fence(*member),
            Step::Apply(member) => model.apply(*member),
            Step::Push(member) => model.push(*member),
            Step::Renew(member) => model.renew(*member),
            Step::Fetch(member) => model.fetch(*member)?,
            Step::Read(member) => model.read(*member),
            Step::Settle => model.settle(),
        }
        model.check()?;
    }
    Ok(model)
}

proptest! {
    #![proptest_config(Config { cases: 48, ..Config::default() })]

    /// INV-05, INV-06, INV-09, property 3, and where bundle endpoints are served FED-03: through everything that may happen,
    /// in any order.
    #[test]
    fn inv_05_inv_06_inv_09_no_history_of_authorities_breaks_an_invariant(
        serves in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..100),
    ) {
        let result = drive(None, serves, &steps);
        prop_assert!(result.is_ok(), "{}", result.map(|_| ()).unwrap_err());
    }
}

/// What a planted bug is found by, in so many histories at most.
fn found(bug: Bug) -> String {
    let config = Config { cases: 600, max_shrink_iters: 0, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome =
        runner.run(&proptest::collection::vec(step(), 1..100), |steps| match drive(Some(bug), false, &steps) {
            Ok(_) => Ok(()),
            Err(violation) => Err(TestCaseError::fail(violation.to_string())),
        });
    let Err(TestError::Fail(reason, _)) = outcome else { unreachable!("{bug:?} was not found: {outcome:?}") };
    reason.to_string()
}

#[test]
fn inv_05_an_activation_without_the_gate_is_found() {
    let reason = found(Bug::NoGate);
    assert!(reason.contains("INV-05"), "{reason}");
}

/// A root is to be replaced; one member lags, and is read from, after the leader had its successor prepared. Then time
/// passes, all catch up, and what is due is done.
fn a_lagging_member_is_read_from() -> Vec<Step> {
    let mut steps = vec![Step::Replace(true, false)];
    // Prepare, and mark as published.
    steps.extend([Step::Decide(0), Step::Carry(0), Step::Decide(0), Step::Carry(0)]);
    steps.extend([Step::Pass(9), Step::Read(2), Step::Settle]);
    for _ in 0..3 {
        steps.extend([Step::Decide(0), Step::Carry(0), Step::Pass(7), Step::Settle]);
    }
    steps.extend([Step::Decide(0), Step::Carry(0), Step::Renew(0), Step::Fetch(0)]);
    steps
}

/// Accepts: FED-03, FED-04. Refuses: FED-03, FED-04
#[test]
fn a_mark_before_every_member_serves_the_authority_is_found() {
    drive(None, true, &a_lagging_member_is_read_from()).map(drop).unwrap();
    let found = drive(Some(Bug::EarlyMark), true, &a_lagging_member_is_read_from()).map(drop).unwrap_err();
    assert!(found.to_string().contains("FED-03"), "{found}");
}

/// Refuses: FED-05
#[test]
fn inv_05_pruning_too_early_is_found() {
    let reason = found(Bug::EarlyPruning);
    assert!(reason.contains("INV-05"), "{reason}");
}

#[test]
fn a_step_that_is_repeated_after_a_change_of_leader_is_found() {
    let reason = found(Bug::RepeatedStep);
    assert!(reason.contains("taken twice"), "{reason}");
}

#[test]
fn a_prepare_that_lands_after_another_leader_has_prepared_and_activated_is_found() {
    let reason = found(Bug::NoPrecondition);
    assert!(reason.contains("taken twice: a late"), "{reason}");
}

#[test]
fn inv_06_signing_on_under_a_root_that_signs_no_more_is_found() {
    let reason = found(Bug::RootIgnored);
    assert!(reason.contains("INV-06"), "{reason}");
}

/// What the model does is worth checking only if authorities live their whole lives in it.
#[test]
fn a_modelled_cluster_that_is_left_alone_rotates_and_a_suspect_is_replaced_tainted_and_revoked() {
    let mut model = Model::new(None, false);
    let root = model.active(model::kind(true));
    for _ in 0..24 {
        model.pass(10);
        model.run_for_a_while().unwrap();
    }
    assert!(model.moves() > 6, "{} steps", model.moves());
    assert_ne!(model.active(model::kind(true)), root);
    for kind in [model::kind(true), model::kind(false)] {
        let suspect = model.active(kind);
        model.replace(kind, true);
        model.run_for_a_while().unwrap();
        assert!(model.is_revoked(kind, &suspect), "the life cycle went on by itself");
        assert_ne!(model.active(kind), suspect);
    }
}

/// Accepts: FED-02, FED-03, FED-04, FED-05
#[test]
fn a_modelled_cluster_with_bundle_endpoints_rotates_and_replaces_a_suspect_once_readers_had_their_time() {
    let mut model = Model::new(None, true);
    let root = model.active(model::kind(true));
    for _ in 0..24 {
        model.pass(10);
        model.run_for_a_while().unwrap();
    }
    assert_ne!(model.active(model::kind(true)), root);
    for kind in [model::kind(true), model::kind(false)] {
        let suspect = model.active(kind);
        model.replace(kind, true);
        model.run_for_a_while().unwrap();
        assert_eq!(model.active(kind), suspect, "nobody signs before readers had three hints");
        for _ in 0..4 {
            model.pass(10);
            model.run_for_a_while().unwrap();
        }
        assert!(model.is_revoked(kind, &suspect));
    }
}
