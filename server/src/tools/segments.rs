//! The `segments_*` tools.

use llm_memory_engine::api::{SampleRequest, SampleResult};

use super::{Tool, reply, schema};
use crate::access::Role;

pub(super) fn tools() -> Vec<Tool> {
    vec![Tool {
        name: "segments_verify",
        dotted: "segments.verify",
        title: "Verify a sample of the stored bodies",
        description: "Read a share of the stored bodies from the journal and the blocks, past \
            every cache, check their hashes, and measure how long a read takes. journal_verify \
            reads all of them.",
        roles: &[Role::Operator, Role::Monitor],
        core: false,
        read_only: true,
        destructive: false,
        idempotent: true,
        input_schema: schema::input::<SampleRequest>,
        output_schema: || schema::by_scope::<SampleResult>(&[]),
        run: |context, arguments| {
            let request: SampleRequest = reply::parse(arguments)?;
            let asked = request.scope;
            let results = context.engine.verify_sample(context.caller, request)?;
            reply::by_scope(asked, results, reply::nothing_extra)
        },
    }]
}
