use proptest::prelude::*;

use super::*;

const SECOND: i64 = crate::time::SECOND.as_nanos();
/// How long queries wait, in nanoseconds.
const TIMEOUT: i64 = 5 * SECOND;
/// How long replies wait for their query, in nanoseconds.
const EARLY: i64 = super::EARLY.as_nanos();

fn key(flow: u64, id: u16, question: u64) -> Key {
    Key::new(flow, Way::Up, id, 0, question)
}

/// The moment this many nanoseconds after the epoch.
fn at(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanos(nanoseconds)
}

fn query(key: Key, time: i64) -> Query {
    let time = at(time);
    Query { key, time, length: 30, weight: 1, stream: false, transfer: false, readable: true }
}

fn reply(key: Key, time: i64) -> Reply {
    let time = at(time);
    Reply { key, time, length: 60, weight: 1, direction: 0, transfer: false }
}

/// The tables, and the entries that left them unpaired.
struct Table {
    transactions: Transactions,
    gone: Vec<Gone>,
}

impl Table {
    fn new(capacity: usize) -> Self {
        Self {
            transactions: Transactions::new(capacity, Span::from_nanos(TIMEOUT)),
            gone: Vec::new(),
        }
    }

    fn query(&mut self, query: Query) -> Option<Reply> {
        let gone = &mut self.gone;
        self.transactions.query(&query, &mut |one| gone.push(one))
    }

    fn reply(&mut self, reply: Reply) -> Answer {
        let gone = &mut self.gone;
        self.transactions.reply(&reply, &mut |one| gone.push(one))
    }

    fn expire(&mut self, now: i64) {
        let gone = &mut self.gone;
        self.transactions.expire(at(now), &mut |one| gone.push(one));
    }

    fn end_input(&mut self) {
        let gone = &mut self.gone;
        self.transactions.end_input(&mut |one| gone.push(one));
    }

    fn timed_out(&self) -> usize {
        self.gone.iter().filter(|one| matches!(one, Gone::TimedOut(_))).count()
    }

    fn orphans(&self) -> usize {
        self.gone.iter().filter(|one| matches!(one, Gone::Orphan(_))).count()
    }
}

#[test]
fn reply_matches_its_query() {
    let mut table = Table::new(8);
    let asked = query(key(1, 7, 3), 10);
    table.query(asked);
    for (other, why) in [
        (key(1, 8, 3), "another id"),
        (key(1, 7, 4), "another question"),
        (key(2, 7, 3), "another flow"),
        (Key::new(1, Way::Down, 7, 0, 3), "the way of the query itself"),
        (Key::new(1, Way::Up, 7, 4, 3), "another opcode"),
    ] {
        assert_eq!(table.reply(reply(other, 11)), Answer::Early, "{why}");
    }
    assert_eq!(table.reply(reply(asked.key, 12)), Answer::Of(asked));
    assert_eq!(table.transactions.open(), 0);
    table.end_input();
    assert_eq!((table.orphans(), table.timed_out()), (5, 0));
}

#[test]
fn reply_without_question_matches_oldest_query_of_exchange() {
    let mut table = Table::new(8);
    let (a, aaaa) = (query(key(1, 7, 3), 10), query(key(1, 7, 4), 11));
    table.query(a);
    table.query(aaaa);
    assert_eq!(table.reply(reply(key(1, 7, 0), 12)), Answer::Of(a));
    assert_eq!(table.reply(reply(key(1, 7, 0), 12)), Answer::Of(aaaa));
    // A query whose question was not captured matches a reply that repeats the question.
    let cut = query(key(1, 8, 0), 20);
    table.query(cut);
    assert_eq!(table.reply(reply(key(1, 8, 3), 21)), Answer::Of(cut));
}

#[test]
fn unreadable_query_can_be_answered_but_never_times_out() {
    let mut table = Table::new(8);
    let unreadable = Query { readable: false, ..query(key(1, 7, 0), 10) };
    table.query(unreadable);
    assert_eq!(table.transactions.open(), 0);
    assert_eq!(table.reply(reply(key(1, 7, 0), 11)), Answer::Of(unreadable));
    table.query(Query { time: at(20 * SECOND), ..unreadable });
    table.expire(40 * SECOND);
    assert_eq!(table.gone, []);
}

#[test]
fn repeated_query_counts_once() {
    let mut table = Table::new(8);
    let asked = query(key(1, 7, 3), 10);
    table.query(asked);
    table.query(query(asked.key, 10 + TIMEOUT));
    assert_eq!(table.transactions.open(), 1);
    table.query(query(asked.key, 11 + TIMEOUT));
    assert_eq!(table.gone, [Gone::TimedOut(asked)]);
    let again = query(asked.key, 11 + TIMEOUT);
    assert_eq!(table.reply(reply(asked.key, 12 + TIMEOUT)), Answer::Of(again));
    // The same holds after its answer, except over TCP, which does not retransmit messages.
    table.query(query(asked.key, 13 + TIMEOUT));
    assert_eq!(table.reply(reply(asked.key, 14 + TIMEOUT)), Answer::Duplicate);
    table.query(query(asked.key, 15 + TIMEOUT));
    table.expire(20 + 2 * TIMEOUT);
    assert_eq!((table.timed_out(), table.transactions.open()), (1, 0), "it was answered before");
    let again = Query { stream: true, ..query(asked.key, 21 + 2 * TIMEOUT) };
    table.query(again);
    assert_eq!(table.reply(reply(asked.key, 22 + 2 * TIMEOUT)), Answer::Of(again));
    let again = Query { time: at(23 + 2 * TIMEOUT), ..again };
    table.query(again);
    assert_eq!(table.reply(reply(asked.key, 24 + 2 * TIMEOUT)), Answer::Of(again));
}

#[test]
fn further_reply_is_duplicate_until_query_timeout() {
    let mut table = Table::new(8);
    table.query(query(key(1, 7, 3), 10));
    table.reply(reply(key(1, 7, 3), 11));
    assert_eq!(table.reply(reply(key(1, 7, 3), 12)), Answer::Duplicate);
    // The time of the query is kept to a millisecond.
    let near = 2 << 20;
    assert_eq!(table.reply(reply(key(1, 7, 3), 10 + TIMEOUT - near)), Answer::Duplicate);
    assert_eq!(table.reply(reply(key(1, 7, 3), 10 + TIMEOUT + near)), Answer::Early);
    assert_eq!(table.reply(reply(key(1, 7, 4), 12)), Answer::Early, "another question");
}

#[test]
fn reply_may_precede_its_query() {
    let mut table = Table::new(8);
    let early = reply(key(1, 7, 3), 10 + EARLY);
    assert_eq!(table.reply(early), Answer::Early);
    assert_eq!(table.query(query(key(1, 7, 3), 10)), Some(early));
    assert_eq!(table.transactions.open(), 0);
    assert_eq!(table.reply(early), Answer::Duplicate);
    // The reply must not be earlier than the query.
    assert_eq!(table.reply(reply(key(1, 8, 3), 10)), Answer::Early);
    assert_eq!(table.query(query(key(1, 8, 3), 11)), None);
    assert_eq!(table.reply(reply(key(1, 9, 3), 11 + EARLY)), Answer::Early);
    assert_eq!(table.query(query(key(1, 9, 3), 10)), None, "too far apart");
    table.expire(11 + EARLY);
    assert_eq!((table.orphans(), table.transactions.open()), (1, 2));
    table.end_input();
    assert_eq!(table.orphans(), 2);
}

#[test]
fn zone_transfer_is_one_transaction() {
    let mut table = Table::new(8);
    let asked = Query { transfer: true, stream: true, ..query(key(1, 7, 3), 10) };
    table.query(asked);
    assert_eq!(table.reply(reply(asked.key, 11)), Answer::Of(asked));
    for time in 12..20 {
        let question = if time % 2 == 0 { 0 } else { 3 };
        assert_eq!(table.reply(reply(key(1, 7, question), time)), Answer::OfTransfer);
    }
    // Another query with the same id is another exchange.
    let other = Query { stream: true, ..query(key(1, 7, 5), 20) };
    table.query(other);
    assert_eq!(table.reply(reply(other.key, 21)), Answer::Of(other));
    assert_eq!(table.reply(reply(key(1, 7, 6), 22)), Answer::Early);
    // If the query was not captured, the first message is an orphan, and no other.
    let first = Reply { transfer: true, ..reply(key(2, 7, 3), 30) };
    assert_eq!(table.reply(first), Answer::Early);
    assert_eq!(table.reply(Reply { time: at(31), ..first }), Answer::OfTransfer);
}

#[test]
fn remembered_transfers_are_bounded() {
    let mut table = Table::new(8);
    for flow in 0..2_000 {
        let first = Reply { transfer: true, ..reply(key(flow, 7, 3), flow as i64) };
        table.reply(first);
    }
    let last = reply(key(1_999, 7, 0), 2_000);
    assert_eq!(table.reply(last), Answer::OfTransfer);
    assert_eq!(table.reply(reply(key(0, 7, 0), 2_000)), Answer::Early);
}

#[test]
fn icmp_error_closes_quoted_query() {
    let mut table = Table::new(64);
    let [a, b, c] = [3, 4, 5].map(|question| query(key(question, 7, question), 10));
    for one in [a, b, c] {
        table.query(one);
    }
    let transactions = &mut table.transactions;
    assert_eq!(transactions.unreachable(&Quoted::Key(a.key)), Some(a));
    assert_eq!(transactions.unreachable(&Quoted::Key(a.key)), None);
    assert_eq!(transactions.unreachable(&Quoted::Key(b.key.without_question())), Some(b));
    let quoted = |way| Quoted::Flow { flow: 5, way };
    assert_eq!(transactions.unreachable(&quoted(Way::Down)), None, "a reply is quoted");
    assert_eq!(transactions.unreachable(&quoted(Way::Up)), Some(c));
    assert_eq!(transactions.open(), 0);
}

#[test]
fn query_times_out_after_the_deadline_not_at_it() {
    let mut table = Table::new(8);
    table.query(query(key(1, 7, 3), 10));
    table.expire(10 + TIMEOUT);
    let due = |table: &Table, now| table.transactions.due(at(now)).count();
    assert_eq!((due(&table, 10 + TIMEOUT), due(&table, 11 + TIMEOUT)), (0, 1));
    assert_eq!(table.transactions.open(), 1);
    table.expire(11 + TIMEOUT);
    assert_eq!((table.timed_out(), table.transactions.open()), (1, 0));
}

#[test]
fn full_table_evicts_oldest() {
    let mut table = Table::new(2);
    for flow in 1..=3 {
        table.query(query(key(flow, 7, 3), flow as i64));
    }
    assert_eq!(table.transactions.open(), 2);
    assert_eq!(table.transactions.take_evicted(), 1);
    assert_eq!(table.reply(reply(key(1, 7, 3), 4)), Answer::Early);
    assert!(matches!(table.reply(reply(key(2, 7, 3), 4)), Answer::Of(_)));
    for flow in 0..5_000 {
        table.reply(reply(key(flow + 100, 7, 3), 5));
    }
    assert!(table.transactions.early.len() <= EARLY_REPLIES);
    table.end_input();
    assert_eq!(table.orphans(), 5_001, "none is lost without being counted");
}

proptest! {
    /// Compares with a plain list, for any mixture of queries, replies and time in which each question is
    /// asked once.
    #[test]
    fn matching_agrees_with_plain_list(
        steps in prop::collection::vec((0..3u8, 0..4u64, 0..2u16, 0..3u64, 0..4i64), 0..200),
    ) {
        let mut table = Table::new(1_000);
        let mut list: Vec<Query> = Vec::new();
        let (mut now, mut timed_out) = (0, 0);
        for (kind, flow, id, question, wait) in steps {
            now += wait * SECOND;
            let key = key(flow, id, question + 1);
            match kind {
                0 => {
                    let asked = Query { stream: true, ..query(key, now) };
                    table.query(asked);
                    match list.iter().position(|query| query.key == key) {
                        Some(found) if now - list[found].time.as_nanos() <= TIMEOUT => {}
                        Some(found) => {
                            list.remove(found);
                            timed_out += 1;
                            list.push(asked);
                        }
                        None => list.push(asked),
                    }
                }
                1 => {
                    let answer = table.reply(reply(key, now));
                    let at = list.iter().position(|query| query.key == key);
                    let mut expected = at.map(|at| list.remove(at));
                    if expected.is_some_and(|query| now - query.time.as_nanos() > TIMEOUT) {
                        timed_out += 1;
                        expected = None;
                    }
                    let found = match answer {
                        Answer::Of(query) => Some(query),
                        _ => None,
                    };
                    prop_assert_eq!(found, expected);
                    // No early reply may match a later query in this test.
                    table.end_input();
                }
                _ => {
                    table.expire(now);
                    let before = list.len();
                    list.retain(|query| query.time.as_nanos() + TIMEOUT >= now);
                    timed_out += before - list.len();
                }
            }
            prop_assert_eq!(table.timed_out(), timed_out);
            prop_assert_eq!(table.transactions.open(), list.len() as u64);
        }
    }
}
