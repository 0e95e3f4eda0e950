//! What a plan does about skew, and why.

use std::sync::Arc;

use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::{HashJoinExec, PartitionMode};

use crate::fused::FusedExec;
use crate::joins::GraceJoinExec;
use crate::rank::{GroupLimitExec, RankExec, RankMode};
use crate::salted::{SaltExec, is_salt};

/// What a plan does about skew, a sentence each.
pub fn decisions(plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
    let mut said = Vec::new();
    walk(plan, &mut said);
    said
}

fn walk(plan: &Arc<dyn ExecutionPlan>, said: &mut Vec<String>) {
    for child in plan.children() {
        walk(child, said);
    }
    let mut say = |sentence: String| {
        if !said.contains(&sentence) {
            said.push(sentence);
        }
    };
    if let Some(fused) = plan.downcast_ref::<FusedExec>() {
        fused.decisions().into_iter().for_each(say);
    } else if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        let config = scan.data_source().downcast_ref::<FileScanConfig>();
        config.and_then(packing).into_iter().for_each(say);
    } else if let Some(rank) = plan.downcast_ref::<RankExec>() {
        if rank.mode() == RankMode::Local {
            say("ranks are cut to the top in each task before they are merged".to_owned());
        }
    } else if let Some(cut) = plan.downcast_ref::<GroupLimitExec>() {
        say(format!(
            "tasks send the first {} rows of each group on before they are sorted",
            cut.limit()
        ));
    } else if let Some(salt) = plan.downcast_ref::<SaltExec>() {
        salt.decision().into_iter().for_each(say);
    } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        say(join_decision(join));
    } else if let Some(join) = plan.downcast_ref::<GraceJoinExec>()
        && !join.join().on().iter().any(|(left, _)| is_salt(left))
    {
        say(join_decision(join.join()));
    }
}

fn join_decision(join: &HashJoinExec) -> String {
    let on = join.on().iter();
    let on: Vec<String> = on
        .map(|(left, right)| format!("{left} = {right}"))
        .collect();
    match join.partition_mode() {
        PartitionMode::CollectLeft => format!(
            "the join on {} has one hash table for all tasks: its other side isn't shuffled",
            on.join(", ")
        ),
        _ => format!(
            "the join on {} shuffles both sides: a hot key's rows all go to one task",
            on.join(", ")
        ),
    }
}

/// How files were shared out.
fn packing(scan: &FileScanConfig) -> Option<String> {
    let sizes: Vec<u64> = scan
        .file_groups
        .iter()
        .map(|group| group.iter().map(|file| file.effective_size()).sum())
        .collect();
    let files: usize = scan.file_groups.iter().map(|group| group.len()).sum();
    if sizes.len() < 2 {
        return None;
    }
    let mean = sizes.iter().sum::<u64>() as f64 / sizes.len() as f64;
    let largest = sizes.iter().max().copied().unwrap_or(0) as f64 / mean.max(1.0);
    let parts = match scan.output_partitioning {
        Some(_) => "files, whole dates each",
        None => "files or parts of files",
    };
    Some(format!(
        "{files} {parts}, in {} tasks; the largest has {largest:.2} of the mean bytes",
        sizes.len()
    ))
}
