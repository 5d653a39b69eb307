//! Whoever decides, and in whatever order, the same comes out; and what no strategy may do.

use super::*;
use crate::conflict::{Merge, Strategy};
use crate::records::CollectionShape;
use proptest::prelude::Strategy as Generator;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

fn at(ms: u64) -> Hlc {
    Hlc { ms, count: 0 }
}

fn judge(shape: CollectionShape) -> ByCollection {
    let mut collections = Collections::default();
    collections.declare(shape);
    ByCollection { collections, otherwise: Arc::new(NewestFirst) }
}

fn by(strategy: Strategy) -> ByCollection {
    judge(CollectionShape::new("notes").conflicts(strategy))
}

fn first(ms: u64, json: Json) -> RecordBody {
    let content = Content::new(1, Fields::of(&json).unwrap());
    RecordBody::new("notes", at(ms), content.to_bytes().unwrap())
}

fn next(before: &RecordBody, ms: u64, json: Json) -> RecordBody {
    let content = Content::from_bytes(&before.data).unwrap();
    let content = content.after(before.hlc, at(ms), 1, Fields::of(&json).unwrap());
    RecordBody::new("notes", at(ms), content.to_bytes().unwrap())
}

fn gone(ms: u64) -> RecordBody {
    RecordBody::deletion("notes", at(ms))
}

fn says(body: &RecordBody) -> Json {
    Value::Map(Content::from_bytes(&body.data).unwrap().fields.0).to_json()
}

/// What the record says once this was decided.
fn outcome(settled: Settled, mine: &RecordBody, theirs: &RecordBody) -> RecordBody {
    match settled {
        Settled::Mine => mine.clone(),
        Settled::Theirs | Settled::Ask => theirs.clone(),
        Settled::Same => [mine, theirs].into_iter().max_by_key(|body| body.hlc).expect("there are two").clone(),
        Settled::Merged { body, .. } => body,
    }
}

const ALL: [Strategy; 6] = [
    Strategy::LocalWins,
    Strategy::RemoteWins,
    Strategy::LastWriterWins,
    Strategy::FieldMerge,
    Strategy::TextMerge,
    Strategy::AskUser,
];

#[test]
fn each_strategy_does_what_it_says() {
    let base = first(1, json!({ "a": 1, "b": 1, "text": "one two three" }));
    let older = next(&base, 2, json!({ "a": 2, "b": 1, "text": "ONE two three" }));
    let newer = next(&base, 3, json!({ "a": 1, "b": 3, "text": "one two THREE" }));
    let settle = |strategy, mine: &RecordBody, theirs: &RecordBody| by(strategy).settle(Some(&base), mine, theirs);
    assert_eq!(settle(Strategy::LocalWins, &older, &newer), Settled::Mine);
    assert_eq!(settle(Strategy::RemoteWins, &newer, &older), Settled::Theirs);
    assert_eq!(settle(Strategy::LastWriterWins, &older, &newer), Settled::Theirs);
    assert_eq!(settle(Strategy::LastWriterWins, &newer, &older), Settled::Mine);
    assert_eq!(settle(Strategy::AskUser, &newer, &older), Settled::Ask);
    let Settled::Merged { body, lossy } = settle(Strategy::FieldMerge, &older, &newer) else { panic!("not merged") };
    assert_eq!((says(&body), lossy), (json!({ "a": 2, "b": 3, "text": "one two THREE" }), true));
    let Settled::Merged { body, lossy } = settle(Strategy::TextMerge, &older, &newer) else { panic!("not merged") };
    assert_eq!((says(&body), lossy), (json!({ "a": 2, "b": 3, "text": "ONE two THREE" }), false));
    assert!(body.hlc > newer.hlc);
}

#[test]
fn an_app_decides_by_itself() {
    let longest = CustomMerge::new(|base, mine, theirs| {
        assert!(base.is_some_and(|base| base.at == at(1)));
        let title = |written: &Written| {
            let title = written.fields.as_ref().and_then(|fields| fields.get("title")?.as_text().map(str::len));
            title.unwrap_or_default()
        };
        match title(mine).cmp(&title(theirs)) {
            std::cmp::Ordering::Less => Decision::Theirs,
            std::cmp::Ordering::Equal => Decision::Ask,
            std::cmp::Ordering::Greater => Decision::Mine,
        }
    });
    let judge = by(Strategy::Custom(longest));
    let base = first(1, json!({ "title": "" }));
    let (short, long) = (next(&base, 2, json!({ "title": "a" })), next(&base, 3, json!({ "title": "aa" })));
    assert_eq!(judge.settle(Some(&base), &short, &long), Settled::Theirs);
    assert_eq!(judge.settle(Some(&base), &long, &short), Settled::Mine);
    assert_eq!(judge.settle(Some(&base), &short, &next(&base, 9, json!({ "title": "b" }))), Settled::Ask);
}

#[test]
fn fields_are_merged_as_they_were_declared() {
    let shape = CollectionShape::new("notes")
        .field("likes", Merge::Counter)
        .field("tags", Merge::Set)
        .field("steps", Merge::List)
        .field("body", Merge::Text);
    let base = first(1, json!({ "likes": 5, "tags": ["a", "b"], "steps": [1, 2, 3], "body": "red car", "x": 0 }));
    let mine = next(&base, 2, json!({ "likes": 7, "tags": ["a", "c"], "steps": [0, 1, 2, 3], "body": "big red car" }));
    let theirs =
        next(&base, 3, json!({ "likes": 4, "tags": ["b", "a", "d"], "steps": [1, 3], "body": "red bus", "x": 1 }));
    let Settled::Merged { body, lossy } = judge(shape).settle(Some(&base), &mine, &theirs) else { panic!("lost") };
    let expected = json!({ "likes": 6, "tags": ["a", "c", "d"], "steps": [0, 1, 3], "body": "big red bus", "x": 1 });
    assert_eq!(says(&body), expected);
    assert!(lossy, "x was removed by one and changed by the other");
}

#[test]
fn a_deletion_never_beats_a_newer_edit() {
    let base = first(1, json!({ "a": 1 }));
    for strategy in ALL.into_iter().chain([Strategy::Custom(CustomMerge::new(|_, _, _| Decision::Mine))]) {
        let judge = by(strategy.clone());
        let edit = next(&base, 3, json!({ "a": 2 }));
        for (mine, theirs) in [(&gone(2), &edit), (&edit, &gone(2))] {
            let settled = judge.settle(Some(&base), mine, theirs);
            let stands = outcome(settled.clone(), mine, theirs);
            assert!(!stands.deleted || settled == Settled::Ask, "{strategy:?}");
        }
    }
    let older_edit = next(&base, 2, json!({ "a": 2 }));
    assert_eq!(by(Strategy::FieldMerge).settle(Some(&base), &gone(3), &older_edit), Settled::Mine, "and is listed");
}

#[test]
fn what_says_the_same_is_no_conflict() {
    let body = first(1, json!({ "a": 1 }));
    for strategy in ALL {
        assert_eq!(by(strategy.clone()).settle(None, &body, &first(9, json!({ "a": 1 }))), Settled::Same);
        assert_eq!(by(strategy).settle(Some(&body), &gone(2), &gone(3)), Settled::Same);
    }
}

#[test]
fn two_who_count_one_more_have_counted_two() {
    let judge = judge(CollectionShape::new("notes").field("likes", Merge::Counter));
    let base = first(1, json!({ "likes": 5 }));
    let (mine, theirs) = (next(&base, 2, json!({ "likes": 6 })), next(&base, 2, json!({ "likes": 6 })));
    let Settled::Merged { body, lossy: false } = judge.settle(Some(&base), &mine, &theirs) else { panic!("lost") };
    assert_eq!(says(&body), json!({ "likes": 7 }));
}

#[test]
fn what_a_later_version_of_the_app_wrote_is_not_written_over() {
    let later = Content::new(2, Fields::of(&json!({ "a": 1, "shape": "new" })).unwrap());
    let theirs = RecordBody::new("notes", at(1), later.to_bytes().unwrap());
    for strategy in ALL {
        let mine = first(9, json!({ "a": 2 }));
        // Until somebody has decided, what is in the log stands.
        let expected = if matches!(strategy, Strategy::AskUser) { Settled::Ask } else { Settled::Theirs };
        assert_eq!(by(strategy).settle(None, &mine, &theirs), expected);
    }
}

#[test]
fn plain_bytes_are_decided_whole() {
    let (old, new) =
        (RecordBody::new("notes", at(1), b"old".to_vec()), RecordBody::new("notes", at(2), b"new".to_vec()));
    assert_eq!(by(Strategy::FieldMerge).settle(None, &old, &new), Settled::Theirs);
    assert_eq!(by(Strategy::LocalWins).settle(None, &old, &new), Settled::Mine);
    let elsewhere = |body: &RecordBody| RecordBody::new("other", body.hlc, body.data.clone());
    assert_eq!(by(Strategy::LocalWins).settle(None, &elsewhere(&old), &elsewhere(&new)), Settled::Theirs);
}

/// What one person makes of a record: what is set, counted, added and removed.
#[derive(Clone, Debug)]
struct Edit {
    ms: u64,
    fields: Vec<(u8, i64)>,
    likes: i64,
    tag: u8,
    untag: u8,
}

fn any_edit() -> impl Generator<Value = Edit> {
    let fields = proptest::collection::vec((0..4_u8, 0..3_i64), 0..3);
    (10..14_u64, fields, -3..4_i64, 0..6_u8, 0..6_u8).prop_map(|(ms, fields, likes, tag, untag)| Edit {
        ms,
        fields,
        likes,
        tag,
        untag,
    })
}

fn edited(base: &RecordBody, edit: &Edit) -> RecordBody {
    let mut json = says(base);
    for (name, value) in &edit.fields {
        json[format!("f{name}")] = (*value).into();
    }
    json["likes"] = (json["likes"].as_i64().unwrap() + edit.likes).into();
    let tags = json["tags"].as_array_mut().unwrap();
    tags.retain(|tag| *tag != json!(edit.untag));
    if !tags.contains(&json!(edit.tag)) {
        tags.push(edit.tag.into());
    }
    next(base, edit.ms, json)
}

proptest! {
    /// Three people write at once; each arrives in the log after some of the others and merges with what is there. What
    /// stands in the end depends neither on the order nor on who merged.
    #[test]
    fn merges_by_field_converge_in_any_order(edits in proptest::collection::vec(any_edit(), 3)) {
        let judge = judge(CollectionShape::new("notes").field("likes", Merge::Counter).field("tags", Merge::Set));
        let base = first(1, json!({ "f0": 0, "f1": 0, "likes": 10, "tags": [0, 1, 2] }));
        let versions: Vec<RecordBody> = edits.iter().map(|edit| edited(&base, edit)).collect();
        let mut ends = Vec::new();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut log = versions[order[0]].clone();
            for who in &order[1..] {
                let mine = &versions[*who];
                log = outcome(judge.settle(Some(&base), mine, &log), mine, &log);
            }
            let mut end = says(&log);
            end["tags"].as_array_mut().unwrap().sort_by_key(Json::as_i64);
            ends.push(end);
        }
        prop_assert!(ends.iter().all(|end| *end == ends[0]), "{:#?}", ends);
    }

    /// Two people meet the same conflict, each calling the other theirs: they decide alike.
    #[test]
    fn whoever_decides_decides_alike(one in any_edit(), other in any_edit(), text in any::<bool>()) {
        let base = first(1, json!({ "f0": 0, "f1": 0, "likes": 10, "tags": [0, 1, 2] }));
        let (one, other) = (edited(&base, &one), edited(&base, &other));
        for strategy in [Strategy::LastWriterWins, if text { Strategy::TextMerge } else { Strategy::FieldMerge }] {
            let judge = by(strategy);
            let here = outcome(judge.settle(Some(&base), &one, &other), &one, &other);
            let there = outcome(judge.settle(Some(&base), &other, &one), &other, &one);
            prop_assert_eq!(says(&here), says(&there));
        }
    }

    /// Three people write one of few things, or delete; two of them may say the same at different times, and the third
    /// something else between. Whoever wrote last has the last word, in whatever order they meet.
    #[test]
    fn whoever_wrote_last_has_the_last_word_in_any_order(words in proptest::collection::vec((10..16_u64, 0..3_u8), 3)) {
        let judge = by(Strategy::LastWriterWins);
        let base = first(1, json!({ "a": 0 }));
        let version = |(ms, word): &(u64, u8)| match word {
            0 => gone(*ms),
            word => first(*ms, json!({ "a": word })),
        };
        let versions: Vec<RecordBody> = words.iter().map(version).collect();
        let last = versions.iter().max_by_key(|body| (body.hlc, !body.deleted, body.data.0.clone())).unwrap();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut log = versions[order[0]].clone();
            for who in &order[1..] {
                log = outcome(judge.settle(Some(&base), &versions[*who], &log), &versions[*who], &log);
            }
            prop_assert_eq!(log.says_the_same(last), true, "{:?}: {:?}", order, log);
        }
    }

    /// Whatever the strategy: what stands was written by somebody or is put together from both, the same question has
    /// the same answer, and no deletion stands without a question where a newer edit was made.
    #[test]
    fn every_strategy_keeps_to_the_three_rules(
        one in any_edit(), other in any_edit(), deleted in 0..3_u8, at_ms in 10..14_u64, known in any::<bool>()
    ) {
        let base = first(1, json!({ "f0": 0, "f1": 0, "likes": 10, "tags": [0, 1, 2] }));
        let version = |number: u8, edit: &Edit| if deleted == number { gone(at_ms) } else { edited(&base, edit) };
        let (mine, theirs) = (version(1, &one), version(2, &other));
        let custom = [Decision::Mine, Decision::Theirs, Decision::Ask].map(|decision| {
            Strategy::Custom(CustomMerge::new(move |_, _, _| decision.clone()))
        });
        for strategy in ALL.into_iter().chain(custom) {
            let judge = by(strategy.clone());
            let settled = judge.settle(known.then_some(&base), &mine, &theirs);
            prop_assert_eq!(&settled, &judge.settle(known.then_some(&base), &mine, &theirs));
            let stands = outcome(settled.clone(), &mine, &theirs);
            let newest_edit = [&mine, &theirs].into_iter().filter(|body| !body.deleted).map(|body| body.hlc).max();
            if stands.deleted && settled != Settled::Ask && !mine.says_the_same(&theirs) {
                prop_assert!(newest_edit.is_none_or(|edit| edit <= stands.hlc), "{strategy:?}: {settled:?}");
            }
            match settled {
                Settled::Merged { body, .. } => {
                    prop_assert!(body.hlc > mine.hlc && body.hlc > theirs.hlc);
                    prop_assert!(!mine.deleted && !theirs.deleted);
                }
                Settled::Same => prop_assert!(mine.says_the_same(&theirs)),
                Settled::Mine | Settled::Theirs | Settled::Ask => {}
            }
        }
    }

    /// Three people write at once, and each finds in the log what stands after those before. With `LocalWins` it is
    /// what came last, with `RemoteWins` and while a person is asked what came first; and an app's own function that
    /// is the same from both sides ends the same in any order.
    #[test]
    fn what_stands_depends_on_the_order_alone_or_not_at_all(edits in proptest::collection::vec(any_edit(), 3)) {
        let base = first(1, json!({ "f0": 0, "f1": 0, "likes": 10, "tags": [0, 1, 2] }));
        let versions: Vec<RecordBody> = edits.iter().map(|edit| edited(&base, edit)).collect();
        let likes = |written: &Written| {
            let fields = written.fields.clone().unwrap_or_default();
            (fields.get("likes").and_then(Value::as_int), fields.0)
        };
        let fair = CustomMerge::new(move |_, mine, theirs| {
            let rank = |written: &Written| Value::Map(likes(written).1).to_json().to_string();
            let (my_likes, their_likes) = (likes(mine).0, likes(theirs).0);
            if (my_likes, rank(mine)) > (their_likes, rank(theirs)) { Decision::Mine } else { Decision::Theirs }
        });
        let mut ends = Vec::new();
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let stands = |strategy: Strategy| {
                let judge = by(strategy);
                let mut log = versions[order[0]].clone();
                for who in &order[1..] {
                    log = outcome(judge.settle(Some(&base), &versions[*who], &log), &versions[*who], &log);
                }
                says(&log)
            };
            prop_assert_eq!(stands(Strategy::LocalWins), says(&versions[order[2]]));
            for strategy in [Strategy::RemoteWins, Strategy::AskUser] {
                prop_assert_eq!(stands(strategy), says(&versions[order[0]]));
            }
            ends.push(stands(Strategy::Custom(fair.clone())).to_string());
        }
        prop_assert!(ends.iter().all(|end| *end == ends[0]), "{ends:#?}");
    }
}
