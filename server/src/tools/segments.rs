//! The `segments_*` tools.

use std::collections::BTreeMap;

use llm_memory_engine::api::{SampleRequest, SampleResult};

use super::{Tool, reply, schema};
use crate::access::Role;

pub(super) fn tools() -> Vec<Tool> {
    vec![each_scope!(
        "segments_verify", "segments.verify", "Verify a sample of the stored bodies",
        &[Role::Operator, Role::Monitor],
        [read_only: true, destructive: false],
        SampleRequest => SampleResult,
        |context, asked| context.engine.verify_sample(context.caller, asked),
        "Read a share of the stored bodies from the journal and the blocks, past every cache, check \
         their hashes, and measure how long a read takes. journal_verify reads all of them."
    )]
}
