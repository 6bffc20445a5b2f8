use super::*;

fn secrets() -> SecretPatterns {
    SecretPatterns::compile().unwrap()
}

fn entries(text: &str) -> Vec<Entry> {
    parse("t.toml", text, &secrets()).unwrap()
}

/// The faults of the only topic of `text`, a line each.
fn faults(text: &str) -> String {
    match entries(text).as_slice() {
        [Entry::Invalid(topic)] => topic.faults.iter().map(|fault| format!("{fault}\n")).collect(),
        other => panic!("{other:?}"),
    }
}

fn refused(text: &str) -> String {
    parse("t.toml", text, &secrets()).unwrap_err().to_string()
}

const SOURCE: &str = "version = 1\n[[source]]\nid = \"s\"\ntitle = \"S\"\n";

#[test]
fn the_built_in_topics_are_all_valid_and_sourced() {
    let entries = parse(DEFAULT_TOPICS_NAME, DEFAULT_TOPICS, &secrets()).unwrap();
    assert!(entries.len() >= 5);
    for entry in entries {
        let Entry::Valid(topic) = entry else { panic!("{entry:?}") };
        for claim in topic.facts.iter().chain(&topic.notes) {
            assert!(topic.sources.iter().any(|source| source.id == claim.source));
        }
    }
}

#[test]
fn every_fault_of_a_topic_is_told_at_once_with_its_place() {
    let text = format!(
        "{SOURCE}
[[topic]]
title = \"\"
tags = [\"ok\", \"{{{{ tag }}}}\"]
facts = [
  {{ text = \"No source.\" }},
  {{ text = \"Unknown source.\", source = \"nobody\" }},
  {{ text = \"Bad id.\", source = \"../x\" }},
  {{ source = \"s\" }},
  {{ text = \"Override \\u202e here.\", source = \"s\" }},
]
"
    );
    insta::assert_snapshot!(faults(&text), @r"
    t.toml:7:9: the title is empty
    t.toml:8:15: a tag holds the template mark `{{`; write it in words
    t.toml:10:3: fact 1 has no source; every claim needs one
    t.toml:11:40: fact 2 names the source `nobody`, and no [[source]] has this id
    t.toml:12:32: the source id of fact 3 must be 1 to 40 of a-z, 0-9 and -
    t.toml:13:3: fact 4 is missing
    t.toml:14:12: fact 5 holds the control character U+202E; remove it
    ");
}

#[test]
fn a_topic_without_facts_or_title_is_invalid() {
    insta::assert_snapshot!(faults(&format!("{SOURCE}[[topic]]\ntags = [\"a\"]\n")), @r"
    t.toml:5:1: the title is missing
    t.toml:5:1: the topic has no facts; give it at least one, with a source
    ");
}

#[test]
fn the_fault_of_a_source_is_a_fault_of_the_topics_that_cite_it() {
    let text = "version = 1
[[source]]
id = \"s\"
title = \"S\"
url = \"javascript:alert(1)\"
[[source]]
id = \"s\"
title = \"T\"
[[topic]]
title = \"T\"
facts = [{ text = \"F\", source = \"s\" }]
";
    insta::assert_snapshot!(faults(text), @r"
    t.toml:6:1: the source `s` is declared more than once
    t.toml:5:7: the url of the source `s` must be an http or https address without blanks, quotes or passwords
    ");
}

#[test]
fn a_title_that_is_too_long_is_not_echoed() {
    let text = format!(
        "{SOURCE}[[topic]]\ntitle = \"{}\"\nfacts = [{{ text = \"F\", source = \"s\" }}]\n",
        "x".repeat(10_240)
    );
    assert_eq!(faults(&text), "t.toml:6:9: the title has 10240 characters; the limit is 160\n");
    let [Entry::Invalid(topic)] = &entries(&text)[..] else { panic!() };
    assert_eq!(topic.label, "(topic at t.toml:5)");
}

#[test]
fn a_secret_is_named_by_its_kind_and_appears_nowhere() {
    let token = format!("ghp_{}", "a1".repeat(18));
    let text = format!(
        "{SOURCE}[[topic]]\ntitle = \"Look {token}\"\nfacts = [{{ text = \"F\", source = \"s\" }}]\n"
    );
    let all = format!("{:?}", entries(&text));
    assert!(all.contains("a GitHub token") && !all.contains(&token), "{all}");
}

#[test]
fn the_second_topic_with_a_title_is_the_invalid_one() {
    let topic = "[[topic]]\ntitle = \"Same  title\"\nfacts = [{ text = \"F\", source = \"s\" }]\n";
    let entries = entries(&format!("{SOURCE}{topic}{topic}"));
    let [Entry::Valid(_), Entry::Invalid(second)] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!(second.reason(), "t.toml:9:9: the topic at line 6 has the same title");
}

#[test]
fn right_to_left_letters_and_emoji_are_plain_text() {
    let text = format!(
        "{SOURCE}[[topic]]\ntitle = \"מה זה watchdog? 👩‍🚒\"\nfacts = [{{ text = \"عربى\", source = \"s\" }}]\n"
    );
    assert!(matches!(&entries(&text)[..], [Entry::Valid(topic)] if topic.title.contains("👩‍🚒")));
}

#[test]
fn a_file_that_cannot_be_read_as_a_whole_says_where() {
    assert_eq!(refused("version = 1\n[[topic]\n"), "t.toml:2:9: unclosed array table, expected `]`");
    assert!(
        refused("version = 1\n\n[[topic]]\ntilte = \"x\"\n").starts_with("t.toml:4:1: unknown field `tilte`")
    );
    assert!(
        refused("version = 1\n[[topic]]\ntitle = 3\n").starts_with("t.toml:3:9: invalid type: integer `3`")
    );
    assert_eq!(refused("version = 2\n"), "t.toml: version 2 is not known; this program reads version 1");
    assert_eq!(refused("version = 1\n"), "t.toml: 0 topics; the file must hold between 1 and 1000");
    assert_eq!(
        refused(&format!("version = 1\n{}", "[[topic]]\n".repeat(1001))),
        "t.toml: 1001 topics; the file must hold between 1 and 1000"
    );
}

#[test]
fn a_file_that_is_missing_or_too_large_is_refused_before_it_is_read() {
    let missing = read_file(Path::new("/nonexistent/t.toml"), &secrets()).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read the topics file /nonexistent/t.toml");
    let large = tempfile::NamedTempFile::new().unwrap();
    large.as_file().set_len(FILE_LIMIT_BYTES + 1).unwrap();
    assert!(matches!(read_file(large.path(), &secrets()), Err(TopicsError::TooLarge { .. })));
}

#[test]
fn the_digest_changes_with_every_part() {
    let text = format!(
        "{SOURCE}url = \"https://a.example\"\n[[topic]]\ntitle = \"T\"\ntags = [\"g\"]\nfacts = [{{ text = \"F\", source = \"s\" }}]\nnotes = [{{ text = \"N\", source = \"s\" }}]\n"
    );
    let digest = |text: &str| match &entries(text)[..] {
        [Entry::Valid(topic)] => topic.digest(),
        other => panic!("{other:?}"),
    };
    let mut digests = BTreeSet::from([digest(&text)]);
    for (from, to) in [
        ("\"T\"", "\"U\""),
        ("\"g\"", "\"h\""),
        ("\"F\"", "\"G\""),
        ("\"N\"", "\"M\""),
        ("\"S\"", "\"R\""),
        ("a.example", "b.example"),
    ] {
        assert!(digests.insert(digest(&text.replace(from, to))), "{from}");
    }
    assert_eq!(digest(&format!("# a comment\n{text}")), digest(&text));
}
