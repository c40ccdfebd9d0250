//! Decisions of candidates and leaders.

use super::*;

const OWN: u64 = 1;
const SETTINGS: &Settings = &Settings::SITE;
const TIMER: Duration = Duration::from_millis(450);
const OFF: Duration = Duration::from_millis(2_500);

fn voters(configurations: &[&[u64]]) -> Vec<BTreeSet<u64>> {
    configurations.iter().map(|voters| voters.iter().copied().collect()).collect()
}

/// Somebody who has just heard of a leader, or leads and was just acknowledged.
fn view<'a>(standing: Standing, configurations: &'a [BTreeSet<u64>]) -> View<'a> {
    let now = Instant::now();
    View {
        now,
        own: OWN,
        standing,
        term: 3,
        configurations,
        leader_contact: now,
        quorum_acknowledged: now,
        last_attempt: None,
        soft_grant: None,
        timer: TIMER,
        round: None,
        clock_is_off_for: None,
        settings: SETTINGS,
    }
}

/// A round in term 3, with answers of (member, granted, term).
fn round(view: &View<'_>, answers: &[(u64, bool, u64)]) -> Round {
    let mut round = Round::new(view.now, 3);
    for (member, granted, term) in answers {
        round.answer(*member, PreVoteAnswer { granted: *granted, term: *term });
    }
    round
}

#[test]
fn a_sole_voter_elects_at_once_whatever_its_clock_says_ele_11() {
    let sole = voters(&[&[OWN]]);
    assert_eq!(decide(&view(Standing::Follower, &sole)), Action::Elect);
    assert_eq!(decide(&view(Standing::Candidate, &sole)), Action::Elect);
    let off = View { clock_is_off_for: Some(OFF), ..view(Standing::Follower, &sole) };
    assert_eq!(decide(&off), Action::Elect);
    assert_eq!(decide(&View { standing: Standing::Leader, ..off }), Action::Wait(None));
}

#[test]
fn a_sole_voter_does_not_raise_its_term_again_while_its_vote_is_being_synced() {
    let sole = voters(&[&[OWN]]);
    let mut view = view(Standing::Candidate, &sole);
    view.last_attempt = Some(view.now);
    assert_eq!(decide(&view), Action::Wait(Some(SETTINGS.timer_min)));
    view.now += SETTINGS.timer_min;
    assert_eq!(decide(&view), Action::Elect);
}

#[test]
fn who_has_no_vote_never_asks() {
    let others = voters(&[&[2, 3]]);
    for standing in [Standing::Learner, Standing::Follower, Standing::Candidate] {
        let mut view = view(standing, &others);
        view.now += Duration::from_secs(60);
        assert_eq!(decide(&view), Action::Wait(None), "{standing:?}");
        view.configurations = &[];
        assert_eq!(decide(&view), Action::Wait(None), "{standing:?}");
    }
}

#[test]
fn a_voter_among_others_asks_before_it_stands_ele_01() {
    for configurations in [voters(&[&[OWN, 2, 3]]), voters(&[&[OWN], &[OWN, 2]])] {
        let mut view = view(Standing::Follower, &configurations);
        assert_eq!(decide(&view), Action::Wait(Some(TIMER)));
        view.now += TIMER;
        assert_eq!(decide(&view), Action::Ask);
    }
}

#[test]
fn a_voter_waits_from_its_last_attempt_where_that_is_later_than_contact() {
    let three = voters(&[&[OWN, 2, 3]]);
    let mut view = view(Standing::Follower, &three);
    view.now += TIMER;
    view.last_attempt = Some(view.now);
    assert_eq!(decide(&view), Action::Wait(Some(TIMER)));
}

#[test]
fn a_voter_that_has_promised_another_does_not_ask_meanwhile_ele_05() {
    let three = voters(&[&[OWN, 2, 3]]);
    let mut view = view(Standing::Follower, &three);
    view.now += TIMER;
    let until = view.now + SETTINGS.sticky;
    view.soft_grant = Some(SoftGrant { to: 2, until });
    assert_eq!(decide(&view), Action::Wait(Some(SETTINGS.sticky)));
    view.soft_grant = Some(SoftGrant { to: OWN, until });
    assert_eq!(decide(&view), Action::Ask);
}

#[test]
fn a_round_that_is_won_is_followed_by_one_election_and_a_lost_one_by_another_wait_ele_01() {
    let three = voters(&[&[OWN, 2, 3]]);
    let mut view = view(Standing::Follower, &three);
    view.leader_contact -= TIMER;
    view.last_attempt = Some(view.now);
    let won = round(&view, &[(2, true, 3)]);
    assert_eq!(decide(&View { round: Some(&won), ..view.clone() }), Action::Elect);
    let lost = round(&view, &[(2, false, 3), (3, false, 3)]);
    assert_eq!(decide(&View { round: Some(&lost), ..view.clone() }), Action::Wait(Some(TIMER)));
    let unanswered = round(&view, &[]);
    assert_eq!(decide(&View { round: Some(&unanswered), ..view }), Action::Wait(Some(TIMER)));
}

#[test]
fn a_candidate_behind_takes_the_voters_term_on_first_and_a_refused_one_takes_on_nothing_ele_06() {
    let three = voters(&[&[OWN, 2, 3]]);
    let mut view = view(Standing::Follower, &three);
    view.leader_contact -= TIMER;
    view.last_attempt = Some(view.now);
    let won = round(&view, &[(2, true, 3), (3, false, 7)]);
    assert_eq!(decide(&View { round: Some(&won), ..view.clone() }), Action::TakeOn(7));
    let caught_up = View { term: 7, round: Some(&won), ..view.clone() };
    assert_eq!(decide(&caught_up), Action::Elect);
    let lost = round(&view, &[(2, false, 7), (3, false, 7)]);
    assert_eq!(decide(&View { round: Some(&lost), ..view }), Action::Wait(Some(TIMER)));
}

#[test]
fn a_leader_that_is_heard_of_during_a_round_overtakes_it() {
    let three = voters(&[&[OWN, 2, 3]]);
    let mut view = view(Standing::Follower, &three);
    let won = round(&view, &[(2, true, 3), (3, true, 3)]);
    view.now += Duration::from_millis(10);
    view.leader_contact = view.now;
    view.last_attempt = Some(won.asked_at());
    assert_eq!(decide(&View { round: Some(&won), ..view }), Action::Wait(Some(TIMER)));
}

#[test]
fn a_leader_steps_down_when_no_quorum_has_acknowledged_for_too_long_ele_04() {
    let three = voters(&[&[OWN, 2, 3]]);
    let mut view = view(Standing::Leader, &three);
    assert_eq!(decide(&view), Action::Wait(Some(SETTINGS.step_down)));
    view.now += SETTINGS.step_down - Duration::from_millis(1);
    assert_eq!(decide(&view), Action::Wait(Some(Duration::from_millis(1))));
    view.now += Duration::from_millis(1);
    assert_eq!(decide(&view), Action::StepDown);
}

#[test]
fn a_node_whose_clock_is_off_neither_asks_nor_leads_ele_11() {
    let three = voters(&[&[OWN, 2, 3]]);
    let mut view = View { clock_is_off_for: Some(OFF), ..view(Standing::Leader, &three) };
    assert_eq!(decide(&view), Action::StepDown);
    view.standing = Standing::Follower;
    view.now += TIMER;
    assert_eq!(decide(&view), Action::Wait(Some(OFF)));
    let won = round(&view, &[(2, true, 3), (3, true, 3)]);
    assert_eq!(decide(&View { round: Some(&won), ..view }), Action::Wait(Some(OFF)));
}
