//! Whether a history is linearizable (INV-02): Wing and Gong's search with Lowe's memory.
//!
//! Keys are independent of each other, so each is looked at by itself, which is what makes the search short. For one key
//! the question is: is there an order of its operations in which each stands between its beginning and its end, and each
//! answer is the one that a single register would have given? An operation that nobody answered may stand anywhere after
//! its beginning, or nowhere.
//!
//! ```text
//!   time ──►   create(1) [────────]
//!                   read    [──] = nothing      fits: the read stands before the create
//!                              read [──] = 1
//!                              read       [──] = nothing     does not: nobody took it away
//! ```

use std::{collections::HashSet, fmt::Write};

use crate::history::{End, History, Op, Operation};

/// How many operations around the one that does not fit are shown.
const SHOWN: usize = 12;

/// No order explains what was answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no order of the operations on {key} explains their answers; around the {fitting} that can be explained:\n{shown}"
)]
pub(crate) struct NotLinearizable {
    /// Whose operations.
    pub(crate) key: String,
    /// How many at most can be put into an order.
    pub(crate) fitting: usize,
    /// Those around the first that cannot, a line each.
    shown: String,
}

/// Checks every key of a history.
///
/// # Errors
/// The first key whose operations have no order.
pub(crate) fn check(history: &History) -> Result<Checked, NotLinearizable> {
    let mut checked = Checked::default();
    for (key, operations) in history.by_key() {
        let operations = without_the_unseen(operations);
        Search::new(&operations).run().map_err(|stuck| NotLinearizable {
            key: key.to_owned(),
            fitting: stuck.fitting,
            shown: show(&operations, stuck.at_ns),
        })?;
        checked.keys += 1;
        checked.operations += operations.len();
    }
    Ok(checked)
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Checked {
    /// Keys.
    pub(crate) keys: usize,
    /// Operations on them that say something.
    pub(crate) operations: usize,
}

/// Leaves out updates that nobody answered and whose mark nobody saw. Taking one away from an order that explains
/// everything leaves an order that does: it changes no presence, and nothing else could be seen of it.
fn without_the_unseen(operations: Vec<Operation>) -> Vec<Operation> {
    let seen: HashSet<i64> = operations
        .iter()
        .filter(|operation| operation.op == Op::Read)
        .filter_map(|operation| operation.end.and_then(|end| end.value))
        .collect();
    let says_something = |operation: &Operation| {
        operation.op != Op::Update
            || operation.end.is_some()
            || operation.asked.is_some_and(|mark| seen.contains(&mark))
    };
    operations.into_iter().filter(says_something).collect()
}

/// What the register holds.
type Register = Option<i64>;

/// What an operation makes of the register; none when its answer could not have been given.
fn step(operation: &Operation, register: Register) -> Option<Register> {
    let there = register.is_some();
    let done = match operation.op {
        Op::Create => (!there).then_some(operation.asked),
        Op::Update => there.then_some(operation.asked),
        Op::Delete => there.then_some(None),
        Op::Read => Some(register),
    };
    match operation.end {
        Some(End { refused: true, .. }) => done.is_none().then_some(register),
        Some(End { value, .. }) if operation.op == Op::Read => (value == register).then_some(register),
        Some(_) | None => done,
    }
}

/// The end of the list of beginnings and ends.
const NOBODY: usize = usize::MAX;

/// A beginning or an end in the list that is searched.
#[derive(Debug, Clone, Copy)]
struct Node {
    operation: usize,
    is_end: bool,
    /// The end of the same operation, for a beginning that has one.
    end: usize,
    before: usize,
    after: usize,
}

/// The search for one key.
struct Search<'a> {
    operations: &'a [Operation],
    nodes: Vec<Node>,
    first: usize,
    /// Ends that are still in the list: when there are none, everything is explained.
    ends: usize,
    placed: Vec<u64>,
    register: Register,
    /// What was placed, in order, and what the register was before.
    stack: Vec<(usize, Register)>,
    tried: HashSet<(Vec<u64>, Register)>,
}

/// Where a search came to its end in vain.
#[derive(Debug)]
struct Stuck {
    fitting: usize,
    at_ns: u64,
}

impl<'a> Search<'a> {
    fn new(operations: &'a [Operation]) -> Self {
        // At the same instant a beginning comes first: the two may have overlapped.
        let mut order: Vec<(u64, bool, usize)> = Vec::new();
        for (number, operation) in operations.iter().enumerate() {
            order.push((operation.begun_ns, false, number));
            if let Some(end) = operation.end {
                order.push((end.ended_ns, true, number));
            }
        }
        order.sort_unstable();
        let mut nodes: Vec<Node> = Vec::with_capacity(order.len());
        let mut begun = vec![NOBODY; operations.len()];
        for (place, (_, is_end, operation)) in order.iter().copied().enumerate() {
            let after = if place + 1 < order.len() { place + 1 } else { NOBODY };
            nodes.push(Node { operation, is_end, end: NOBODY, before: place.wrapping_sub(1), after });
            if !is_end {
                if let Some(begun) = begun.get_mut(operation) {
                    *begun = place;
                }
            } else if let Some(node) = begun.get(operation).and_then(|begun| nodes.get_mut(*begun)) {
                node.end = place;
            }
        }
        let ends = nodes.iter().filter(|node| node.is_end).count();
        Self {
            operations,
            first: if nodes.is_empty() { NOBODY } else { 0 },
            nodes,
            ends,
            placed: vec![0; operations.len().div_ceil(64)],
            register: None,
            stack: Vec::new(),
            tried: HashSet::new(),
        }
    }

    fn run(mut self) -> Result<(), Stuck> {
        let mut stuck = Stuck { fitting: 0, at_ns: 0 };
        let mut place = self.first;
        while self.ends > 0 {
            let node = self.nodes.get(place).copied();
            match node {
                Some(node) if !node.is_end => {
                    place = if self.place(place, node) { self.first } else { node.after };
                }
                // An operation has ended that is not placed, or nothing is left to try: one step back.
                Some(_) | None => {
                    if self.stack.len() >= stuck.fitting {
                        let ended = node.and_then(|node| self.operations.get(node.operation)).and_then(|op| op.end);
                        stuck = Stuck { fitting: self.stack.len(), at_ns: ended.map_or(u64::MAX, |end| end.ended_ns) };
                    }
                    let Some((last, register)) = self.stack.pop() else { return Err(stuck) };
                    self.register = register;
                    self.put_back(last);
                    place = self.nodes.get(last).map_or(NOBODY, |node| node.after);
                }
            }
        }
        Ok(())
    }

    /// Places an operation next, unless its answer does not fit or the same was tried before.
    fn place(&mut self, place: usize, node: Node) -> bool {
        let Some(register) = self.operations.get(node.operation).and_then(|op| step(op, self.register)) else {
            return false;
        };
        let mut placed = self.placed.clone();
        set(&mut placed, node.operation, true);
        if !self.tried.insert((placed.clone(), register)) {
            return false;
        }
        self.placed = placed;
        self.stack.push((place, std::mem::replace(&mut self.register, register)));
        self.unlink(place);
        if node.end != NOBODY {
            self.unlink(node.end);
            self.ends -= 1;
        }
        true
    }

    fn put_back(&mut self, place: usize) {
        let Some(node) = self.nodes.get(place).copied() else { return };
        set(&mut self.placed, node.operation, false);
        // In the opposite order of their going, or they would not find their neighbours.
        if node.end != NOBODY {
            self.link(node.end);
            self.ends += 1;
        }
        self.link(place);
    }

    fn unlink(&mut self, place: usize) {
        let Some(Node { before, after, .. }) = self.nodes.get(place).copied() else { return };
        match self.nodes.get_mut(before) {
            Some(node) => node.after = after,
            None => self.first = after,
        }
        if let Some(node) = self.nodes.get_mut(after) {
            node.before = before;
        }
    }

    fn link(&mut self, place: usize) {
        let Some(Node { before, after, .. }) = self.nodes.get(place).copied() else { return };
        match self.nodes.get_mut(before) {
            Some(node) => node.after = place,
            None => self.first = place,
        }
        if let Some(node) = self.nodes.get_mut(after) {
            node.before = place;
        }
    }
}

fn set(bits: &mut [u64], number: usize, on: bool) {
    if let Some(word) = bits.get_mut(number / 64) {
        let bit = 1 << (number % 64);
        *word = if on { *word | bit } else { *word & !bit };
    }
}

/// The operations around an instant, for whoever looks into it.
fn show(operations: &[Operation], at_ns: u64) -> String {
    let ended = |operation: &&Operation| operation.end.is_none_or(|end| end.ended_ns <= at_ns);
    let reached = operations.iter().filter(ended).count();
    let from = reached.saturating_sub(SHOWN);
    let mut shown = String::new();
    for operation in operations.iter().skip(from).take(2 * SHOWN) {
        let answer = match operation.end {
            None => "no answer".to_owned(),
            Some(End { ended_ns, refused: true, .. }) => format!("refused at {ended_ns}"),
            Some(End { ended_ns, value, .. }) => format!("{value:?} at {ended_ns}"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(
            shown,
            "  process {} {:?} {:?} at {}: {answer}",
            operation.process, operation.op, operation.asked, operation.begun_ns
        );
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};

    /// An operation that was answered.
    fn done(process: u64, op: Op, value: Option<i64>, begun_ns: u64, ended_ns: u64) -> Operation {
        let end = Some(End { ended_ns, value, refused: false });
        Operation::of_test(process, op, if op == Op::Read { None } else { value }, begun_ns, end)
    }

    fn refused(process: u64, op: Op, value: Option<i64>, begun_ns: u64, ended_ns: u64) -> Operation {
        Operation::of_test(process, op, value, begun_ns, Some(End { ended_ns, value: None, refused: true }))
    }

    fn open(process: u64, op: Op, value: Option<i64>, begun_ns: u64) -> Operation {
        Operation::of_test(process, op, value, begun_ns, None)
    }

    fn fits(operations: &[Operation]) -> bool {
        Search::new(&without_the_unseen(operations.to_vec())).run().is_ok()
    }

    #[test]
    fn inv_02_histories_that_one_register_explains_are_linearizable() {
        use Op::{Create, Delete, Read, Update};
        let good: [&[Operation]; 7] = [
            &[],
            &[done(1, Create, Some(1), 0, 10), done(2, Read, Some(1), 20, 30), done(1, Delete, None, 40, 50)],
            // Overlapping: the read may stand before or after the write.
            &[done(1, Create, Some(1), 0, 10), done(2, Read, None, 5, 6), done(3, Read, Some(1), 7, 8)],
            // Two creates at once: one of them is refused.
            &[done(1, Create, Some(1), 0, 10), refused(2, Create, Some(2), 0, 10), done(3, Read, Some(1), 11, 12)],
            // Nobody answered the update; its effect is seen much later.
            &[
                done(1, Create, Some(1), 0, 10),
                open(2, Update, Some(2), 20),
                done(3, Read, Some(1), 30, 40),
                done(3, Read, Some(2), 50, 60),
            ],
            // Nobody answered the delete, and it was never done.
            &[done(1, Create, Some(1), 0, 10), open(2, Delete, None, 20), done(3, Read, Some(1), 30, 40)],
            &[done(1, Create, Some(1), 0, 10), open(2, Delete, None, 20), refused(3, Update, Some(2), 30, 40)],
        ];
        for operations in good {
            assert!(fits(operations), "{operations:?}");
        }
    }

    #[test]
    fn inv_02_histories_that_no_register_explains_are_not() {
        use Op::{Create, Delete, Read, Update};
        let bad: [(&str, &[Operation]); 8] = [
            ("a lost write", &[done(1, Create, Some(1), 0, 10), done(2, Read, None, 20, 30)]),
            (
                "a stale read",
                &[done(1, Create, Some(1), 0, 10), done(1, Update, Some(2), 20, 30), done(2, Read, Some(1), 40, 50)],
            ),
            (
                "a read that goes back, while the write is still under way",
                &[
                    done(1, Create, Some(1), 0, 10),
                    done(1, Update, Some(2), 20, 90),
                    done(2, Read, Some(2), 30, 40),
                    done(2, Read, Some(1), 50, 60),
                ],
            ),
            ("a value from nowhere", &[done(1, Create, Some(1), 0, 10), done(2, Read, Some(7), 20, 30)]),
            (
                "what was deleted comes back",
                &[
                    done(1, Create, Some(1), 0, 10),
                    done(1, Delete, None, 20, 30),
                    done(2, Read, None, 31, 32),
                    done(2, Read, Some(1), 40, 50),
                ],
            ),
            ("two creates that both succeeded", &[done(1, Create, Some(1), 0, 10), done(2, Create, Some(2), 0, 10)]),
            ("a create refused where there was nothing", &[refused(1, Create, Some(1), 0, 10)]),
            (
                "a repeat that was carried out twice",
                &[
                    done(1, Create, Some(1), 0, 10),
                    done(1, Update, Some(2), 20, 30),
                    done(2, Update, Some(3), 40, 50),
                    done(3, Read, Some(3), 60, 70),
                    done(3, Read, Some(2), 80, 90),
                ],
            ),
        ];
        for (what, operations) in bad {
            assert!(!fits(operations), "{what}: {operations:?}");
        }
    }

    /// A history that is linearizable by its making: each operation takes effect at one instant within its time.
    fn made(random: &mut SmallRng, operations: u64) -> Vec<Operation> {
        let mut instants: Vec<u64> = (0..operations).map(|number| 100 * (number + 1)).collect();
        instants.shuffle(random);
        let mut planned: Vec<(u64, u64, Op, i64)> = (0..operations)
            .zip(instants)
            .map(|(process, instant)| {
                let op = *[Op::Create, Op::Update, Op::Delete, Op::Read, Op::Read].choose(random).unwrap();
                (instant, process, op, i64::try_from(process).unwrap())
            })
            .collect();
        planned.sort_unstable_by_key(|(instant, ..)| *instant);
        let mut register = None;
        planned
            .into_iter()
            .map(|(instant, process, op, mark)| {
                let begun_ns = instant - random.gen_range(0..90.min(instant));
                let ended_ns = instant + random.gen_range(0..2_000);
                let asked = matches!(op, Op::Create | Op::Update).then_some(mark);
                let is_refused = match op {
                    Op::Create => register.is_some(),
                    Op::Update | Op::Delete => register.is_none(),
                    Op::Read => false,
                };
                if !is_refused {
                    register = match op {
                        Op::Create | Op::Update => asked,
                        Op::Delete => None,
                        Op::Read => register,
                    };
                }
                let value = if op == Op::Read { register } else { asked };
                let end =
                    (op == Op::Read || random.gen_ratio(9, 10)).then_some(End { ended_ns, value, refused: is_refused });
                Operation::of_test(process, op, asked, begun_ns, end)
            })
            .collect()
    }

    #[test]
    fn inv_02_a_history_made_from_one_register_is_found_linearizable_and_a_spoilt_one_is_not() {
        let mut spoilt = 0;
        for seed in 0..200 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut operations = made(&mut random, 60);
            assert!(fits(&operations), "seed {seed}: {operations:?}");
            // A read of a mark that nobody wrote fits nowhere, wherever it stands.
            let read = operations.iter_mut().find(|op| op.op == Op::Read);
            if let Some(end) = read.and_then(|read| read.end.as_mut()) {
                end.value = Some(-1);
                assert!(!fits(&operations), "seed {seed}");
                spoilt += 1;
            }
        }
        assert!(spoilt > 150, "histories were spoilt: {spoilt}");
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_neighbours() {
        use crate::history::{Kind, Line};
        let mut history = History::default();
        let line = |process, kind, op, value, time_ns| Line {
            process,
            kind,
            op,
            key: "entry-7".to_owned(),
            value,
            refused: false,
            time_ns,
        };
        history.push(line(1, Kind::Invoke, Op::Create, Some(5), 1));
        history.push(line(1, Kind::Ok, Op::Create, Some(5), 2));
        history.push(line(2, Kind::Invoke, Op::Read, None, 3));
        history.push(line(2, Kind::Ok, Op::Read, None, 4));
        let error = check(&history).unwrap_err();
        assert_eq!((error.key.as_str(), error.fitting), ("entry-7", 1));
        assert!(error.to_string().contains("process 2 Read None at 3: None at 4"), "{error}");
    }
}
