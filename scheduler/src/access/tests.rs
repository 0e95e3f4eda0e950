use std::collections::BTreeMap;

use futures::TryStreamExt;
use proptest::prelude::*;
use rankmill_engine::store::LocalStore;
use rankmill_jobs::spec;

use super::*;
use crate::ErrorKind;

const SPEC: &str = "version: 1
name: test
source: { path: '{lake}/log/', date: { partition: date } }
lookups:
  - { path: '{lake}/users/', on: user_id, attributes: { region: region } }
ranking:
  item: item
  per: [date, region]
  measures: { clicks: 'count(*)' }
  order_by: [clicks]
  top: 10
labels:
  - { path: '{lake}/items/', on: item, columns: [title] }
output: { path: '{lake}/out/' }
";

const QUERY: &str = "version: 1
name: test
sources:
  t: { path: '{lake}/log/', date: { partition: date } }
  other: { path: '{where}' }
sql: SELECT * FROM t
output: { path: '{lake}/out/' }
";

fn access(prefixes: &[&str]) -> Access {
    let prefixes: Vec<String> = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
    Access::new(&prefixes).unwrap()
}

/// Checks a query one of whose sources lies at `path`.
fn check(access: &Access, lake: &str, path: &str) -> Result<()> {
    let set = BTreeMap::from([("where".to_owned(), path.to_owned())]);
    let params = Params::new(lake, set);
    access.check(&spec::parse(QUERY, "test", &params).unwrap(), &params)
}

#[test]
fn every_path_of_a_spec_is_checked() {
    let params = Params::new("s3://lake", BTreeMap::new());
    let allowed = access(&["s3://lake"]);
    allowed
        .check(&spec::parse(SPEC, "test", &params).unwrap(), &params)
        .unwrap();
    for (path, field) in [
        ("{lake}/log/", "source.path"),
        ("{lake}/users/", "lookups[0].path"),
        ("{lake}/items/", "labels[0].path"),
        ("{lake}/out/", "output.path"),
    ] {
        let yaml = SPEC.replace(path, "s3://other/x/");
        let error = allowed
            .check(&spec::parse(&yaml, "test", &params).unwrap(), &params)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forbidden);
        assert_eq!(
            error.to_string(),
            format!("{field}: 's3://other/x' is not under one of the allowed prefixes")
        );
    }
    let error = check(&allowed, "s3://lake", "s3://other/x").unwrap_err();
    assert!(error.to_string().starts_with("sources.other.path: "));
}

#[test]
fn prefixes_in_a_bucket() {
    let allowed = access(&["s3://lake/team/", "s3://shared"]);
    for path in [
        "{lake}/x/",
        "s3://lake/team",
        "s3://lake/team/a/b.csv",
        "s3a://lake/team/x",
        "s3://lake/team/*/x[12].parquet",
        "s3://lake/team/%2e%2e/x",
        "s3://shared/anything",
        "s3://shared",
    ] {
        let path = path.replace("{lake}", "s3://lake/team");
        check(&allowed, "s3://lake/team", &path).unwrap();
    }
    for path in [
        "s3://lake",
        "s3://lake/",
        "s3://lake/te",
        "s3://lake/team2/x",
        "s3://lake/Team/x",
        "s3://lake/team%2f/x",
        "s3://lake/*",
        "s3://lake/tea*/x",
        "s3://lake/team*",
        "s3://lake/other/x",
        "s3://lake/team/../other/x",
        "s3://lake/team/./x",
        "s3://lake//team/../x",
        "s3://shared2/x",
        "s3://shared:80/x",
        "s3://me@shared/x",
        "s3://shared?x/y",
        "S3://lake/team/x",
        "https://lake/team/x",
        "file:///lake/team/x",
        "/lake/team/x",
        "lake/team/x",
        "",
        // The scheduler's own records.
        "s3://lake/team/_rankmill",
        "s3://lake/team/_rankmill/",
        "s3://lake/team/_rankmill/runs/*.json",
        "s3://lake/team/_RankMill/runs/",
    ] {
        let found = check(&allowed, "s3://lake/team", path);
        let kind = found.as_ref().map_err(Error::kind);
        assert!(
            matches!(kind, Err(ErrorKind::Forbidden | ErrorKind::Invalid)),
            "{path}: {found:?}"
        );
    }
    // Only those of this lake.
    check(&allowed, "s3://lake/team", "s3://lake/team/x/_rankmill/").unwrap();
    assert!(check(&access(&[]), "s3://lake", "s3://lake/x").is_err());
}

/// A folder with an allowed one, `in`, beside what is none of the spec's business.
fn folders() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for file in ["in/log/a.csv", "in/_rankmill/a.csv", "in2/a.csv", "a.csv"] {
        let path = root.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let secret = file != "in/log/a.csv";
        std::fs::write(path, if secret { "secret" } else { "fine" }).unwrap();
    }
    let root = root.to_str().unwrap().to_owned();
    (folder, root)
}

#[test]
fn prefixes_on_a_disk() {
    let (_guard, root) = folders();
    let lake = format!("{root}/in");
    let allowed = access(&[&lake]);
    for path in [
        "{lake}/log/",
        "{lake}/log",
        "{lake}/not/yet/there/",
        "file://{lake}/log/",
        "{lake}/log/../log/*.csv",
        "{lake}",
        "/{lake}//log",
        "{lake}/%2e%2e/x",
    ] {
        check(&allowed, &lake, &path.replace("{lake}", &lake)).unwrap();
    }
    for path in [
        "/",
        "/etc/passwd",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "{lake}2/",
        "{lake}/..",
        "{lake}/../a.csv",
        "{lake}/log/../../in2/*.csv",
        "{lake}*",
        "{lake}/../*/a.csv",
        "../in/log/",
        "~/x",
        "{lake}/_rankmill",
        "{lake}/_rankmill/a.csv",
        "{lake}/log/../_rankmill/*",
        "{lake}/_RANKMILL/",
    ] {
        let path = path.replace("{lake}", &lake);
        assert!(check(&allowed, &lake, &path).is_err(), "{path}");
    }
}

#[cfg(unix)]
#[test]
fn links_are_followed() {
    use std::os::unix::fs::symlink;

    let (_guard, root) = folders();
    let lake = format!("{root}/in");
    let link = |to: &str, name: &str| symlink(to, format!("{lake}/{name}")).unwrap();
    link("log", "inside");
    link("../in2", "outside");
    link("/etc", "etc");
    link("outside", "twice");
    link("../not-yet", "dangling");
    link("_rankmill", "records");
    link("../a.csv", "file.csv");
    // The allowed folder may itself be reached by a link.
    symlink(&lake, format!("{root}/alias")).unwrap();
    let alias = format!("{root}/alias");
    let allowed = access(&[&lake]);
    let by_alias = access(&[&alias]);
    for path in ["inside/", "inside/a.csv", "inside/not/yet/"] {
        check(&allowed, &lake, &format!("{lake}/{path}")).unwrap();
        check(&by_alias, &alias, &format!("{alias}/{path}")).unwrap();
    }
    for path in [
        "outside/",
        "outside/a.csv",
        "outside/new/",
        "etc/passwd",
        "twice/",
        "dangling",
        "dangling/x/",
        "records/",
        "records/a.csv",
        "file.csv",
    ] {
        for (allowed, lake) in [(&allowed, &lake), (&by_alias, &alias)] {
            let path = format!("{lake}/{path}");
            assert!(check(allowed, lake, &path).is_err(), "{path}");
        }
    }
    // From one allowed folder into another.
    let both = access(&[&lake, &format!("{root}/in2")]);
    check(&both, &lake, &format!("{lake}/outside/")).unwrap();
}

/// Everything that a source's path makes rankmill read.
async fn read_all(path: &str) -> String {
    let source = SourcePath::parse(path).unwrap();
    let session = rankmill_engine::Session::new(&Default::default()).unwrap();
    let format = rankmill_engine::source::Format::Csv {
        delimiter: b',',
        header: true,
    };
    let files = rankmill_engine::source::list_files(&session, &source, format, None, None);
    let store = LocalStore::new();
    let mut text = String::new();
    for file in files.await.unwrap_or_default() {
        let got = object_store::ObjectStoreExt::get(&store, &file.meta.location).await;
        let chunks: Vec<_> = got.unwrap().into_stream().try_collect().await.unwrap();
        text.push_str(&String::from_utf8_lossy(&chunks.concat()));
    }
    text
}

proptest! {
    /// Whatever is allowed reads nothing but what is inside.
    #[test]
    fn what_is_allowed_stays_inside(parts in prop::collection::vec(
        prop::sample::select(vec![
            "in", "in2", "log", "a.csv", "..", ".", "*", "**", "?n", "[i]n", "%2e%2e", "..%2f",
            "_rankmill", "*rankmill", "", "%5frankmill", "link", "{where}",
        ]),
        0..6,
    ), at in 0..4usize) {
        let (_guard, root) = folders();
        let lake = format!("{root}/in");
        let begin = [lake.clone(), format!("{lake}/log"), root, format!("file://{lake}")];
        let path = format!("{}/{}", begin[at], parts.join("/"));
        // A listing follows the links it meets; whoever makes them in an allowed folder is trusted.
        #[cfg(unix)]
        if !lists(&path, &lake) {
            std::os::unix::fs::symlink("..", format!("{lake}/link")).unwrap();
        }
        if check(&access(&[&lake]), &lake, &path).is_ok() {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let text = runtime.block_on(read_all(&path));
            prop_assert!(!text.contains("secret"), "{path} read {text}");
        }
    }
}

fn lists(path: &str, folder: &str) -> bool {
    SourcePath::parse(path).is_ok_and(|source| source.base().to_string() == *folder)
}
