//! Which dates need a run, and running them.

use serde_json::{Value, json};

use crate::node::Node;
use crate::shipped::{DAYS, add_clicks, check, lake, oracle};

/// Its dates don't depend on each other: they can be computed in any order.
const JOB: &str = "age-date-ranking";

/// Each date with its state.
fn states(dates: &Value) -> Vec<(&str, &str)> {
    let text = |date| (field(date, "date"), field(date, "state"));
    dates.as_array().unwrap().iter().map(text).collect()
}

fn field<'a>(date: &'a Value, name: &str) -> &'a str {
    date[name].as_str().unwrap()
}

#[test]
fn gaps_are_found_and_filled() {
    let lake = lake();
    let node = Node::embedded(&lake, &[]);
    node.run(&["jobs", "apply", JOB]).ok();
    let gaps = ["gaps", JOB, "--from", "2026-05-31", "--to", DAYS[3]];
    let all = |state| DAYS.map(|day| (day, state));
    let found = node.json(&gaps);
    assert_eq!(states(&found)[0], ("2026-05-31", "no_source"));
    assert_eq!(states(&found)[1..], all("missing"));
    let expected = json!({
        "date": DAYS[0], "state": "missing", "reason": null, "generation": null,
        "last_run_failed": false,
    });
    assert_eq!(found[1], expected);

    let of_range = ["backfill", JOB, "--from", "2026-05-31", "--to", DAYS[3]];
    let dry = node.json(&[&of_range[..], &["--dry-run"]].concat());
    let newest_first = DAYS.map(|day| (day, "missing")).into_iter().rev();
    assert!(states(&dry["dates"]).into_iter().eq(newest_first));
    assert_eq!((&dry["id"], &dry["run_ids"]), (&Value::Null, &json!([])));
    assert_eq!(node.json(&["runs", "list"]), json!([]));

    let options = ["--order", "oldest", "--max-parallel", "2", "--wait"];
    let filled = node.json(&[&of_range[..], &options].concat());
    assert_eq!(states(&filled["dates"]), all("missing"));
    for (run, date) in filled["runs"].as_array().unwrap().iter().zip(DAYS) {
        assert_eq!(
            (&run["from"], &run["state"]),
            (&json!(date), &json!("succeeded"))
        );
        assert_eq!(run["trigger"], "backfill");
        assert_eq!(run["backfill_id"], filled["id"]);
        check(&lake, oracle(), JOB, date, 1);
    }
    let found = node.json(&gaps);
    assert_eq!(states(&found)[1..], all("published"));
    assert_eq!(found[1]["generation"], 1);
    let nothing = node.run(&of_range).ok().stdout;
    assert!(nothing.contains("no date needs it"), "{nothing}");

    add_clicks(&lake, DAYS[2]);
    let found = node.json(&gaps);
    assert_eq!(states(&found)[3], (DAYS[2], "stale"));
    assert_eq!(found[3]["reason"], "input");
    let stale = [&of_range[..], &["--only", "stale", "--wait"]].concat();
    node.run(&stale).ok();
    assert_eq!(lake.published(JOB, DAYS[2]).unwrap().generation, 2);
    assert_eq!(lake.published(JOB, DAYS[0]).unwrap().generation, 1);

    let all_again = [&of_range[..], &["--only", "all", "--wait"]].concat();
    node.run(&all_again).ok();
    assert_eq!(lake.published(JOB, DAYS[0]).unwrap().generation, 2);
    let backwards = ["backfill", JOB, "--from", DAYS[3], "--to", DAYS[0]];
    node.run(&backwards).fails(2, &[DAYS[0]]);
    node.run(&["gaps", "nothing", "--from", DAYS[0], "--to", DAYS[1]])
        .fails(2, &["nothing"]);
}
