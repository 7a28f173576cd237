//! Any text as a policy, any text as a request: no panic, and a Deny in force stays in force beside an Allow of all.
#![no_main]

use gumshoe_iam::{Context, Effect, Kind, Policy, PolicySets, Principal, Request, evaluate};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, &str)| {
    let (document, caller, action, resource) = input;
    for kind in [Kind::Identity, Kind::Resource, Kind::Trust, Kind::ServiceControl, Kind::ResourceControl] {
        let Ok(policy) = Policy::parse_stored(kind, document) else { continue };
        let request = Request::new(Principal::parse(caller), action, resource).with_context(Context::new().with("aws:username", caller));
        let alone = evaluate(&request, &PolicySets::of_identity([policy.clone()]));
        let all = Policy::parse(r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#).unwrap();
        let together = evaluate(&request, &PolicySets::of_identity([all, policy]));
        assert!(alone.effect != Effect::Deny || together.effect == Effect::Deny);
        assert!(!together.explain(&request).is_empty());
    }
});
