use std::path::Path;
use std::time::Duration;

use quick_xml::events::Event as Xml;

use super::*;
use crate::item::State;
use crate::topic;

const EVERY_S: i64 = 60;

/// A pipeline in a folder of its own, with a clock that the test moves.
struct World {
    root: tempfile::TempDir,
    topics: String,
    pipeline: Pipeline,
}

fn topic_text(title: &str) -> String {
    let title = toml::Value::String(title.to_owned());
    format!("[[topic]]\ntitle = {title}\nfacts = [{{ text = \"A fact.\", source = \"s\" }}]\n")
}

fn file_of(topics: &[&str]) -> String {
    let topics: String = topics.iter().map(|title| topic_text(title)).collect();
    format!("version = 1\n[[source]]\nid = \"s\"\ntitle = \"S\"\n{topics}")
}

fn pipeline_in(root: &Path, topics: &str) -> Pipeline {
    let secrets = SecretPatterns::compile().unwrap();
    let entries = topic::parse("t.toml", topics, &secrets).unwrap();
    let every = SlotLength::new(Duration::from_secs(EVERY_S.unsigned_abs())).unwrap();
    let settings =
        Settings { out: root.join("out"), state: root.join("state"), every, stop_at: StopAt::default() };
    Pipeline::new(settings, entries, Templates::compile().unwrap(), secrets)
}

/// The moment 5 s into the slot with this number.
fn in_slot(number: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + number * EVERY_S + 5).unwrap()
}

impl World {
    fn new(topics: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let pipeline = pipeline_in(root.path(), topics);
        Self { root, topics: topics.to_owned(), pipeline }
    }

    /// The process dies and comes back.
    fn restart(self) -> Self {
        let Self { root, topics, pipeline } = self;
        drop(pipeline);
        let pipeline = pipeline_in(root.path(), &topics);
        Self { root, topics, pipeline }
    }

    /// Turns until nothing is due, and returns what was done.
    fn settle(&mut self, now: Timestamp) -> Vec<Turn> {
        let mut turns = Vec::new();
        for _ in 0..10_000 {
            match self.pipeline.turn(now, None).unwrap() {
                Turn::Nothing => return turns,
                turn => turns.push(turn),
            }
        }
        panic!("the pipeline does not come to rest");
    }

    fn files(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.root.path().join("out").join(folder))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.path().join("out").join(path)).unwrap()
    }

    fn journal(&self) -> &Journal {
        self.pipeline.open_journal().unwrap()
    }

    /// `state title` of each item, newest slot first.
    fn items(&self) -> Vec<String> {
        let items = self.journal().newest(100).unwrap();
        items.into_iter().map(|item| format!("{} {}", item.state, item.title)).collect()
    }

    fn state_file(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("state").join(name)
    }
}

#[test]
fn an_item_walks_through_every_state_in_order() {
    let mut world = World::new(&file_of(&["One"]));
    let turns = world.settle(in_slot(0));
    let stages: Vec<Turn> = Stage::ALL.into_iter().map(Turn::Advanced).collect();
    assert!(matches!(turns[0], Turn::Opened { newly_invalid: 0, .. }));
    assert_eq!(turns[1..], stages);
    assert_eq!(world.items(), ["published One"]);
    assert_eq!(world.files("content").len(), 1);
    assert!(world.settle(in_slot(0)).is_empty(), "a served slot stays served");
}

#[test]
fn what_is_published_looks_like_this() {
    let root = tempfile::tempdir().unwrap();
    let mut world =
        World { pipeline: pipeline_in(root.path(), topic::DEFAULT_TOPICS), topics: String::new(), root };
    let _ = world.settle(in_slot(0));
    let _ = world.settle(in_slot(1));
    let names = world.files("content");
    insta::assert_snapshot!("article", world.read(&format!("content/{}", names[1])));
    insta::assert_snapshot!("page", world.read(&format!("site/{}", names[1].replace(".md", ".html"))));
    insta::assert_snapshot!("index", world.read("site/index.html"));
    insta::assert_snapshot!("feed", world.read("site/feed.xml"));
}

#[test]
fn topics_take_turns_and_a_restart_does_not_start_over() {
    let mut world = World::new(&file_of(&["One", "Two", "Three"]));
    let _ = world.settle(in_slot(0));
    let mut world = world.restart();
    for slot in 1..4 {
        let _ = world.settle(in_slot(slot));
    }
    assert_eq!(world.items(), ["published One", "published Three", "published Two", "published One"]);
}

#[test]
fn after_an_absence_only_the_current_slot_is_made_up() {
    let mut world = World::new(&file_of(&["One", "Two"]));
    let _ = world.settle(in_slot(0));
    let mut world = world.restart();
    let turns = world.settle(in_slot(500));
    assert!(matches!(turns[0], Turn::Missed(Missed { count: 499, .. })));
    assert_eq!(world.files("content").len(), 2);
    let missed = world.journal().missed(10).unwrap();
    assert_eq!((missed.len(), missed[0].slots), (1, 499));
    assert!(world.settle(in_slot(500)).is_empty(), "the gap is recorded once");
}

#[test]
fn a_clock_that_steps_back_serves_no_slot_twice() {
    let mut world = World::new(&file_of(&["One", "Two"]));
    let _ = world.settle(in_slot(10));
    assert!(world.settle(in_slot(3)).is_empty());
    assert_eq!(world.settle(in_slot(11)).len(), 6);
    assert_eq!(world.files("content").len(), 2);
}

#[test]
fn an_item_whose_slot_lies_in_the_future_waits_for_the_clock() {
    let mut world = World::new(&file_of(&["One"]));
    let _ = world.pipeline.turn(in_slot(10), None).unwrap();
    let early = in_slot(9);
    let mut turns = (0..3).map(|_| world.pipeline.turn(early, None));
    let error = turns.find_map(Result::err).unwrap();
    assert!(error.to_string().contains("is in the future"), "{error}");
    drop(turns);
    assert_eq!(world.items(), ["drafted One"]);
    let _ = world.settle(in_slot(10));
    assert_eq!(world.items(), ["published One"]);
}

#[test]
fn an_invalid_topic_is_quarantined_once_and_the_slot_takes_the_next() {
    let mut world =
        World::new(&format!("{}[[topic]]\ntitle = \"Bare\"\n{}", file_of(&["One"]), topic_text("Two")));
    for slot in 0..4 {
        let _ = world.settle(in_slot(slot));
    }
    assert_eq!(
        world.items(),
        ["published Two", "published One", "published Two", "quarantined Bare", "published One"]
    );
    let bare = world
        .journal()
        .newest(10)
        .unwrap()
        .into_iter()
        .find(|item| item.state == State::Quarantined)
        .unwrap();
    assert_eq!(
        bare.reason.unwrap(),
        "t.toml:8:1: the topic has no facts; give it at least one, with a source"
    );
}

#[test]
fn without_any_valid_topic_the_slot_is_empty_and_says_so() {
    let mut world = World::new("version = 1\n[[topic]]\ntitle = \"Bare\"\n");
    let turns = world.settle(in_slot(0));
    assert!(
        matches!(turns[..], [Turn::Closed { outcome: Closed::Empty, newly_invalid: 1, .. }]),
        "{turns:?}"
    );
    assert!(world.settle(in_slot(0)).is_empty());
    assert!(world.files("content").is_empty());
}

#[test]
fn an_article_that_fails_the_gate_gives_its_slot_to_the_next_topic() {
    // Every claim and source is within its limit; the article as a whole is not.
    let mut text = "version = 1\n".to_owned();
    for number in 0..64 {
        let title = "𝟛".repeat(160);
        text.push_str(&format!(
            "[[source]]\nid = \"s{number}\"\ntitle = \"{title}\"\nurl = \"https://x/{}\"\n",
            "y".repeat(480)
        ));
    }
    let claims: Vec<String> = (0..64)
        .map(|number| format!("{{ text = \"{}\", source = \"s{number}\" }}", "𝟛".repeat(1000)))
        .collect();
    text.push_str(&format!("[[topic]]\ntitle = \"Huge\"\nfacts = [{}]\n", claims.join(",")));
    text.push_str("[[source]]\nid = \"s\"\ntitle = \"S\"\n");
    text.push_str(&topic_text("Fits"));
    let mut world = World::new(&text);
    let _ = world.settle(in_slot(0));
    assert_eq!(world.items().len(), 2);
    assert!(world.items().contains(&"published Fits".to_owned()), "{:?}", world.items());
    let huge = world.journal().newest(10).unwrap().into_iter().find(|item| item.title == "Huge").unwrap();
    assert!(huge.reason.unwrap().contains("the limit is 262144"));
    assert_eq!(world.files("content").len(), 1);
}

#[test]
fn a_stalled_stage_fills_the_queue_up_to_its_limit_and_no_further() {
    let mut world = World::new(&file_of(&["One", "Two"]));
    let limit = i64::try_from(QUEUE_LIMIT).unwrap();
    let mut full = 0;
    for slot in 0..limit + 5 {
        loop {
            match world.pipeline.turn(in_slot(slot), Some(Stage::Format)).unwrap() {
                Turn::Nothing => break,
                Turn::Missed(_) => full += 1,
                turn => assert_ne!(turn, Turn::Advanced(Stage::Format)),
            }
        }
    }
    assert_eq!(world.journal().queue_length().unwrap(), u64::try_from(QUEUE_LIMIT).unwrap());
    assert_eq!(full, 5);
    assert_eq!(world.journal().missed(1).unwrap()[0].reason, "the queue is full");
    let _ = world.settle(in_slot(limit + 4));
    assert_eq!(world.files("content").len(), QUEUE_LIMIT, "nothing was lost by the stall");
}

#[test]
fn a_lost_journal_costs_history_and_no_second_publication() {
    let mut world = World::new(&file_of(&["One", "Two"]));
    let _ = world.settle(in_slot(0));
    std::fs::remove_dir_all(world.root.path().join("state")).unwrap();
    let mut world = world.restart();
    let turns = world.settle(in_slot(0));
    assert!(matches!(turns[..], [Turn::Closed { outcome: Closed::Adopted, .. }]), "{turns:?}");
    assert_eq!(world.files("content").len(), 1);
}

#[test]
fn a_damaged_journal_is_set_aside_and_the_work_goes_on() {
    for damage in
        [&b"this is no database, only a long enough text to look at"[..], b"SQLite format 3\0garbage follows"]
    {
        let mut world = World::new(&file_of(&["One", "Two"]));
        let _ = world.settle(in_slot(0));
        let World { root, topics, pipeline } = world;
        drop(pipeline);
        crate::disk::write_whole(&root.path().join("state"), "journal.sqlite3", &damage.repeat(100), || ())
            .unwrap();
        let pipeline = pipeline_in(root.path(), &topics);
        let mut world = World { root, topics, pipeline };
        let _ = world.settle(in_slot(0));
        assert_eq!(world.files("content").len(), 1);
        let _ = world.settle(in_slot(1));
        assert_eq!(world.files("content").len(), 2);
        let aside = std::fs::read_dir(world.root.path().join("state")).unwrap();
        let aside =
            aside.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains(".damaged-"));
        assert_eq!(aside.count(), 1, "nothing is deleted");
    }
}

#[test]
fn a_log_with_a_torn_tail_resumes_where_the_last_whole_commit_stands() {
    let mut world = World::new(&file_of(&["One"]));
    for _ in 0..4 {
        let _ = world.pipeline.turn(in_slot(0), None).unwrap();
    }
    assert_eq!(world.items(), ["validated One"]);
    // What a power cut leaves: the files as they are under a live connection, the log cut within its last frame.
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("state")).unwrap();
    for name in ["journal.sqlite3", "journal.sqlite3-wal"] {
        std::fs::copy(world.state_file(name), copy.path().join("state").join(name)).unwrap();
    }
    let log =
        std::fs::File::options().write(true).open(copy.path().join("state/journal.sqlite3-wal")).unwrap();
    log.set_len(log.metadata().unwrap().len() - 100).unwrap();
    let mut torn =
        World { pipeline: pipeline_in(copy.path(), &world.topics), topics: String::new(), root: copy };
    assert_eq!(
        torn.pipeline.turn(in_slot(0), None).unwrap(),
        Turn::Advanced(Stage::Format),
        "the step is done again"
    );
    let _ = torn.settle(in_slot(0));
    assert_eq!(torn.items(), ["published One"]);
}

#[test]
fn a_journal_of_a_newer_program_is_left_alone() {
    let mut world = World::new(&file_of(&["One"]));
    let _ = world.settle(in_slot(0));
    let connection = rusqlite::Connection::open(world.state_file("journal.sqlite3")).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    let mut world = world.restart();
    let error = world.pipeline.turn(in_slot(1), None).unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("schema version 99"), "{error}");
}

#[test]
fn a_row_that_says_something_impossible_is_quarantined_alone() {
    let mut world = World::new(&file_of(&["One", "Two"]));
    let _ = world.pipeline.turn(in_slot(0), None).unwrap();
    let connection = rusqlite::Connection::open(world.state_file("journal.sqlite3")).unwrap();
    connection.execute("UPDATE item SET topic = '{not json'", []).unwrap();
    drop(connection);
    let turns = world.settle(in_slot(0));
    assert_eq!(turns[0], Turn::Quarantined("its row in the journal holds an impossible topic".to_owned()));
    assert!(world.items().contains(&"published Two".to_owned()), "{:?}", world.items());
    assert_eq!(world.files("content").len(), 1);
}

#[test]
fn two_pipelines_do_not_share_a_state_or_an_output_folder() {
    let mut world = World::new(&file_of(&["One"]));
    let _ = world.settle(in_slot(0));
    let mut same_state = pipeline_in(world.root.path(), &world.topics);
    assert!(same_state.turn(in_slot(1), None).unwrap_err().is_fatal());
}

#[test]
fn a_file_of_somebody_else_in_the_slot_is_never_overwritten() {
    let mut world = World::new(&file_of(&["One"]));
    let _ = world.pipeline.turn(in_slot(0), None).unwrap();
    let every = SlotLength::new(Duration::from_secs(EVERY_S.unsigned_abs())).unwrap();
    let name = format!("{}-one.md", every.slot_at(in_slot(0)).stamp());
    crate::disk::write_whole(&world.root.path().join("out/content"), &name, b"by hand", || ()).unwrap();
    let turns = world.settle(in_slot(0));
    assert_eq!(turns.last(), Some(&Turn::Quarantined(format!("its slot is taken by the file {name}"))));
    assert_eq!(world.read(&format!("content/{name}")), "by hand");
}

#[test]
fn an_output_folder_that_is_away_holds_the_item_where_it_is() {
    let mut world = World::new(&file_of(&["One"]));
    let out = world.root.path().join("out");
    crate::disk::write_whole(world.root.path(), "out", b"a file where the folder should be", || ()).unwrap();
    for _ in 0..5 {
        let _ = world.pipeline.turn(in_slot(0), None).unwrap();
    }
    for _ in 0..3 {
        let error = chain_of(&world.pipeline.turn(in_slot(0), None).unwrap_err());
        assert!(error.starts_with("cannot create the folder"), "{error}");
        assert_eq!(world.items(), ["staged One"]);
    }
    std::fs::remove_file(&out).unwrap();
    let _ = world.settle(in_slot(0));
    assert_eq!(world.items(), ["published One"]);
}

#[test]
fn an_output_folder_that_is_removed_under_way_is_made_again() {
    let mut world = World::new(&file_of(&["One", "Two"]));
    let _ = world.settle(in_slot(0));
    std::fs::remove_dir_all(world.root.path().join("out")).unwrap();
    let _ = world.settle(in_slot(1));
    assert_eq!(world.files("content").len(), 1);
    let _ = world.pipeline.turn(in_slot(2), None).unwrap();
    std::fs::remove_dir_all(world.root.path().join("out")).unwrap();
    let failures = (0..20).filter(|_| world.pipeline.turn(in_slot(2), None).is_err()).count();
    assert_eq!(failures, 1, "the attempt after the failure finds the folder made again");
    assert_eq!(world.files("content").len(), 1);
    assert_eq!(world.items()[0], "published One");
}

#[test]
fn lists_that_were_lost_are_computed_again_at_the_start() {
    let mut world = World::new(&file_of(&["One", "Two"]));
    let _ = world.settle(in_slot(0));
    std::fs::remove_file(world.root.path().join("out/site/feed.xml")).unwrap();
    let mut world = world.restart();
    let _ = world.settle(in_slot(1));
    assert_eq!(world.read("site/feed.xml").matches("<entry>").count(), 2);
}

/// The text of the elements with this name, or a panic when the document is not well-formed.
fn xml_texts(document: &str, element: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(document);
    reader.config_mut().check_end_names = true;
    let (mut texts, mut open) = (Vec::new(), None::<String>);
    loop {
        match reader.read_event().unwrap() {
            Xml::Eof => return texts,
            Xml::Start(start) if start.name().as_ref() == element => open = Some(String::new()),
            Xml::End(end) if end.name().as_ref() == element => texts.extend(open.take()),
            Xml::Text(text) => {
                if let Some(open) = &mut open {
                    open.push_str(&text);
                }
            }
            Xml::GeneralRef(reference) => {
                if let Some(open) = &mut open {
                    open.push_str(&quick_xml::escape::unescape(&format!("&{};", &*reference)).unwrap());
                }
            }
            _ => (),
        }
    }
}

#[test]
fn hostile_titles_are_shown_and_not_obeyed() {
    let hostile = [
        "<script>alert(\"1\")</script> & 'co'",
        "../../../etc/passwd",
        "]]> --> <!-- +++ \\ \u{2028}# ` *x* [a](javascript:b)",
        "שלום עולם 👩‍🚒",
    ];
    let mut world = World::new(&file_of(&hostile));
    for slot in 0..4 {
        let _ = world.settle(in_slot(slot));
    }
    let feed = world.read("site/feed.xml");
    let mut titles = xml_texts(&feed, "title");
    assert_eq!(titles.remove(0), crate::render::PUBLICATION_TITLE);
    titles.reverse();
    let expected: Vec<String> =
        hostile.iter().map(|title| title.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(titles, expected);
    assert_eq!(xml_texts(&feed, "id").len(), 5);
    assert_eq!(world.files("content").len(), 4);
    for name in world.files("site") {
        let html = world.read(&format!("site/{name}"));
        assert!(!html.contains("<script") && !html.contains("<!--"), "{name}");
        assert!(
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')),
            "{name}"
        );
    }
    let outside: Vec<_> = std::fs::read_dir(world.root.path()).unwrap().collect();
    assert_eq!(outside.len(), 2, "only out and state");
}
