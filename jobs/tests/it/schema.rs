//! The published JSON Schema against the shipped specs. A validator for the few keywords that
//! it uses: one for all of JSON Schema would cost every build more than it checks here.

use rankmill_jobs::shipped::SHIPPED;
use rankmill_jobs::spec::{Params, json_schema, parse};
use serde_json::{Map, Value, json};

/// What is wrong with a value, and where.
fn violations(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let rules = match schema {
        Value::Bool(true) => return Vec::new(),
        Value::Object(rules) => rules,
        other => return vec![format!("{at}: {other} lets nothing pass")],
    };
    let inner = |schema: &Value, value: &Value, at: &str| violations(root, schema, value, at);
    let mut wrong = Vec::new();
    for (keyword, rule) in rules {
        match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                wrong.extend(inner(root.pointer(pointer).unwrap(), value, at));
            }
            "type" => {
                let allowed = rule
                    .as_array()
                    .cloned()
                    .unwrap_or_else(|| vec![rule.clone()]);
                if !allowed
                    .iter()
                    .any(|name| is_of(name.as_str().unwrap(), value))
                {
                    wrong.push(format!("{at}: not {rule}"));
                }
            }
            "anyOf" | "oneOf" => {
                let fits = |schema: &&Value| inner(schema, value, at).is_empty();
                if !rule.as_array().unwrap().iter().any(|schema| fits(&schema)) {
                    wrong.push(format!("{at}: fits no alternative"));
                }
            }
            "enum" if !rule.as_array().unwrap().contains(value) => {
                wrong.push(format!("{at}: not in {rule}"))
            }
            "const" if rule != value => wrong.push(format!("{at}: not {rule}")),
            "minimum" if value.as_f64() < rule.as_f64() => {
                wrong.push(format!("{at}: below {rule}"))
            }
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    wrong.extend(inner(rule, item, &format!("{at}[{i}]")));
                }
            }
            "required" => {
                let missing = |name: &&Value| value.get(name.as_str().unwrap()).is_none();
                let missing = rule.as_array().unwrap().iter().filter(missing);
                wrong.extend(
                    missing
                        .filter(|_| value.is_object())
                        .map(|name| format!("{at}: lacks {name}")),
                );
            }
            "properties" | "additionalProperties" => {}
            "$schema" | "$defs" | "title" | "description" | "default" | "format" | "enum"
            | "const" | "minimum" => {}
            other => wrong.push(format!(
                "{at}: the keyword '{other}' is not known to this test"
            )),
        }
    }
    let none = Map::new();
    let known = rules
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    for (name, value) in value.as_object().unwrap_or(&none) {
        let at = format!("{at}.{name}");
        match (known.get(name), rules.get("additionalProperties")) {
            (Some(schema), _) => wrong.extend(inner(schema, value, &at)),
            (None, Some(schema)) => wrong.extend(inner(schema, value, &at)),
            (None, None) => {}
        }
    }
    wrong
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "null" => value.is_null(),
        _ => false,
    }
}

fn check(spec: &Value) -> Vec<String> {
    let schema = json_schema();
    violations(&schema, &schema, spec, "spec")
}

/// A shipped spec as it was written, and as it is written back with its defaults.
fn forms(yaml: &str) -> [Value; 2] {
    let params = Params::new("lake", Default::default());
    let spec = parse(yaml, "spec.yaml", &params).unwrap();
    [
        serde_saphyr::from_str(yaml).unwrap(),
        serde_json::to_value(spec).unwrap(),
    ]
}

#[test]
fn shipped_specs_conform() {
    for shipped in SHIPPED {
        for form in forms(shipped.yaml) {
            assert_eq!(
                check(&form),
                Vec::<String>::new(),
                "{}: {form}",
                shipped.name
            );
        }
    }
}

#[test]
fn mistakes_do_not() {
    let [spec, _] = forms(SHIPPED[0].yaml);
    for (pointer, field, value, expected) in [
        (
            "",
            "rankng",
            json!({}),
            "spec.rankng: false lets nothing pass",
        ),
        (
            "/ranking",
            "itme",
            json!("x"),
            "spec.ranking.itme: false lets nothing pass",
        ),
        (
            "/source",
            "path",
            json!(7),
            "spec.source.path: not \"string\"",
        ),
        (
            "/source",
            "format",
            json!("orc"),
            "spec.source.format: fits no alternative",
        ),
        ("/ranking", "top", json!(-1), "spec.ranking.top: below 0"),
        (
            "/ranking",
            "per",
            json!("date"),
            "spec.ranking.per: not \"array\"",
        ),
        (
            "/labels/0",
            "on",
            json!({ "fact": "x" }),
            "spec.labels[0].on: fits no alternative",
        ),
    ] {
        let mut wrong = spec.clone();
        wrong.pointer_mut(pointer).unwrap()[field] = value;
        let found = check(&wrong).join("; ");
        assert!(
            found.contains(expected) || found.contains("fits no alternative"),
            "{expected}: {found}"
        );
    }
    let mut wrong = spec;
    wrong.as_object_mut().unwrap().remove("output");
    assert_eq!(check(&wrong), ["spec: lacks \"output\""]);
}
