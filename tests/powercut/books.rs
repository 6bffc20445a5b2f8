//! What Horus has promised, kept outside of the machine; and whether what is found after a cut agrees.

use std::collections::{BTreeMap, BTreeSet};

/// Services, and the number by which their program is known.
pub(crate) const SERVICES: [(&str, &str); 8] = [
    ("one", "01"),
    ("two", "02"),
    ("three", "03"),
    ("held", "04"),
    ("stopped", "05"),
    ("six", "06"),
    ("seven", "07"),
    ("eight", "08"),
];

/// Which state a service is in by the orders that were answered.
#[derive(Clone, Copy, Debug, Default)]
struct Order {
    /// The last answered one said that it must not run.
    down: bool,
    /// What was asked since, and not answered: it may have come about, or not.
    asked: Option<bool>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Books {
    orders: BTreeMap<&'static str, Order>,
    /// Numbers of the orders whose answer came, and which leave a reason in the journal.
    pub(crate) answered: BTreeSet<u64>,
    /// All that were asked.
    pub(crate) asked: u64,
    /// The last number.
    pub(crate) number: u64,
}

impl Books {
    pub(crate) fn new() -> Self {
        let orders = SERVICES.map(|(name, _)| (name, Order { down: name == "held", asked: None }));
        Self { orders: orders.into(), answered: BTreeSet::new(), asked: 0, number: 0 }
    }

    /// Programs that have to run.
    pub(crate) fn running(&self) -> String {
        let up = SERVICES.iter().filter(|(name, _)| {
            let order = self.orders[name];
            !order.down && order.asked != Some(true)
        });
        up.map(|(_, number)| *number).collect::<Vec<_>>().join(" ")
    }

    /// A word of the driver in the machine: `asked 7 hold one`, `answered 7 hold one`.
    pub(crate) fn hear(&mut self, word: &str) {
        let words: Vec<&str> = word.split(' ').collect();
        let [said, number, act, name] = words[..] else { return };
        let (Ok(number), Some(order)) = (number.parse(), self.orders.get_mut(name)) else { return };
        let down = matches!(act, "hold" | "stop");
        match said {
            "asked" => {
                self.number = number;
                self.asked += 1;
                order.asked = Some(down);
            }
            "answered" => {
                *order = Order { down, asked: None };
                // A stop and a start have no words of a person's.
                if matches!(act, "hold" | "resume") {
                    self.answered.insert(number);
                }
            }
            _ => {}
        }
    }

    /// Compares what the machine shows after a boot with what was promised, and takes it as it is from there on.
    pub(crate) fn compare(&mut self, look: &BTreeMap<String, String>) -> Vec<String> {
        let mut faults = Vec::new();
        let shown = |key: &str| look.get(key).map_or("", String::as_str).trim();
        for (key, wanted) in [("integrity", "ok"), ("aside", ""), ("keepers", "1")] {
            if !look.contains_key(key) || shown(key) != wanted {
                faults.push(format!("{key}: \"{}\", not \"{wanted}\"", shown(key)));
            }
        }
        let told: BTreeSet<u64> =
            shown("orders").split_whitespace().filter_map(|number| number.parse().ok()).collect();
        for number in self.answered.difference(&told) {
            faults.push(format!("order {number} was answered and is not in the journal"));
        }
        let log: Vec<u64> = shown("log").split(' ').filter_map(|number| number.parse().ok()).collect();
        if log.first().is_none_or(|good| *good == 0) {
            faults.push(format!("the log of the counter holds nothing: \"{}\"", shown("log")));
        }
        let status = serde_json::from_str::<serde_json::Value>(shown("status")).unwrap_or_default();
        if !status["store_fault"].is_null() {
            faults.push(format!("the store: {}", status["store_fault"]));
        }
        let counts: BTreeMap<&str, &str> =
            shown("count").split_whitespace().filter_map(|pair| pair.split_once('=')).collect();
        for (name, number) in SERVICES {
            let all = status["services"].as_array();
            let service = all.and_then(|all| all.iter().find(|service| service["name"] == name));
            let Some(service) = service else {
                faults.push(format!("{name} is not in the status"));
                continue;
            };
            let down = !service["hold"].is_null() || service["wanted"] != "up";
            let order = self.orders.entry(name).or_default();
            if down != order.down && order.asked != Some(down) {
                let promised = if order.down { "down" } else { "up" };
                faults.push(format!("{name} was promised to be {promised}: {service}"));
            }
            let count = counts.get(number).copied().unwrap_or("?");
            let wanted = if down { "0" } else { "1" };
            if count != wanted {
                faults.push(format!("{count} processes of {name}, not {wanted}: {service}"));
            }
            *order = Order { down, asked: None };
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(books: &Books, change: impl Fn(&str, &mut bool, &mut u32)) -> BTreeMap<String, String> {
        let mut services = Vec::new();
        let mut counts = String::new();
        for (name, number) in SERVICES {
            let (mut down, mut count) = (books.orders[name].down, 0);
            change(name, &mut down, &mut count);
            count += u32::from(!down);
            counts += &format!("{number}={count} ");
            let hold = if down { serde_json::json!({ "reason": "x" }) } else { serde_json::Value::Null };
            services.push(serde_json::json!({ "name": name, "hold": hold, "wanted": "up" }));
        }
        let status = serde_json::json!({ "store_fault": null, "services": services });
        let orders: String = books.answered.iter().map(|number| format!("{number} ")).collect();
        let all = [("integrity", "ok"), ("aside", ""), ("keepers", "1"), ("log", "12 0"), ("count", &counts)];
        let all = all.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter();
        all.chain([("orders".into(), orders), ("status".into(), status.to_string())]).collect()
    }

    #[test]
    fn each_kind_of_loss_is_seen() {
        let told = || {
            let mut books = Books::new();
            for word in ["asked 3 hold one", "answered 3 hold one", "asked 4 hold two"] {
                books.hear(word);
            }
            books
        };
        let none = |_: &str, _: &mut bool, _: &mut u32| {};
        let faults = |look: BTreeMap<String, String>| told().compare(&look);
        assert_eq!(faults(look(&told(), none)), [""; 0]);
        let two = look(&told(), |name, down, _| *down |= name == "two");
        assert_eq!(faults(two), [""; 0], "what was not answered may have come about");
        let lost = faults(look(&told(), |name, down, _| *down &= name != "one"));
        assert!(lost.len() == 1 && lost[0].starts_with("one was promised to be down"), "{lost:?}");
        let twice = faults(look(&told(), |name, _, count| *count += u32::from(name == "six")));
        assert!(twice.len() == 1 && twice[0].starts_with("2 processes of six"), "{twice:?}");
        for (key, value) in
            [("orders", ""), ("integrity", "page 7"), ("aside", "horus.db.corrupt-1"), ("log", "0 3")]
        {
            let mut wrong = look(&told(), none);
            wrong.insert(key.into(), value.into());
            assert_eq!(faults(wrong).len(), 1, "{key}");
        }
        assert!(!told().running().contains("01") && !told().running().contains("02"));
    }
}
