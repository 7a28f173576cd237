//! The AWS SDK for Rust, whose parser is stricter than boto3's, through the life of a graph.

use std::time::{Duration, SystemTime};

use aws_sdk_detective::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    error::ProvideErrorMetadata as _,
    primitives::DateTime,
    types::{Account, DatasourcePackage, DatasourcePackageIngestState, FilterCriteria, MemberStatus, State, Status, StringFilter},
};
use gumshoe_api::membership::v1::{CreateAccountAdministratorRequest, CreateAccountRequest};
use gumshoe_testkit::{Standalone, standalone::Folder};

const MEMBER: &str = "222233334444";
const ROLE: &str = "arn:aws:iam::111122223333:role/deploy";

fn client(endpoint: &str, id: &str, secret: &str) -> Client {
    let config = aws_sdk_detective::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new(id, secret, None, None, "test"))
        .build();
    Client::from_conf(config)
}

#[tokio::test]
async fn the_sdk_for_rust_walks_the_life_of_a_graph() {
    let folder = Folder::default();
    let server = Standalone::start(&folder.data(), &folder.log("server"), &[]).await;
    let credentials = server.credentials().expect("credentials on first start").clone();
    let owner = client(server.endpoint(), &credentials.access_key_id, &credentials.secret_access_key);
    let grpc = server.sign_in(&credentials).await;

    // The same graph each time, and its tags are those of a new graph only.
    let graph = owner.create_graph().tags("team", "blue").send().await.unwrap().graph_arn.unwrap();
    assert_eq!(graph, credentials.graph_arn);
    let listed = owner.list_graphs().send().await.unwrap().graph_list.unwrap();
    assert_eq!(listed[0].arn.as_deref(), Some(graph.as_str()));
    assert!(listed[0].created_time.is_some());
    owner.tag_resource().resource_arn(&graph).tags("a/b:c", "x").tags("team", "red").send().await.unwrap();
    owner.untag_resource().resource_arn(&graph).tag_keys("team").send().await.unwrap();
    let tags = owner.list_tags_for_resource().resource_arn(&graph).send().await.unwrap().tags.unwrap();
    assert_eq!((tags.len(), tags["a/b:c"].as_str()), (1, "x"));

    let email = format!("root-{MEMBER}@example.com");
    let account = CreateAccountRequest { account_id: MEMBER.to_owned(), name: String::new(), email: email.clone() };
    grpc.membership().create_account(account).await.unwrap();
    let made = grpc.principals().create_account_administrator(CreateAccountAdministratorRequest { account_id: MEMBER.to_owned() }).await.unwrap().into_inner();
    let guest = client(server.endpoint(), &made.access_key.unwrap().access_key_id, &made.secret_access_key);
    let invited = Account::builder().account_id(MEMBER).email_address(&email).build().unwrap();
    let answer = owner.create_members().graph_arn(&graph).message("please").accounts(invited).send().await.unwrap();
    assert_eq!(answer.members()[0].status, Some(MemberStatus::Invited));
    assert_eq!(guest.list_invitations().send().await.unwrap().invitations()[0].graph_arn.as_deref(), Some(graph.as_str()));
    guest.accept_invitation().graph_arn(&graph).send().await.unwrap();
    let members = owner.list_members().graph_arn(&graph).send().await.unwrap();
    let [member] = members.member_details() else { panic!("{members:?}") };
    assert_eq!((member.account_id.as_deref(), &member.status), (Some(MEMBER), &Some(MemberStatus::Enabled)));
    assert!(member.invited_time.is_some() && member.updated_time.is_some());
    let found = owner.get_members().graph_arn(&graph).account_ids(MEMBER).account_ids("999999999999").send().await.unwrap();
    assert_eq!((found.member_details().len(), found.unprocessed_accounts().len()), (1, 1));
    let packages = owner.list_datasource_packages().graph_arn(&graph).send().await.unwrap().datasource_packages.unwrap();
    let core = &packages[&DatasourcePackage::DetectiveCore];
    assert_eq!(core.datasource_package_ingest_state, Some(DatasourcePackageIngestState::Started));
    assert!(core.last_ingest_state_change.as_ref().unwrap()[&DatasourcePackageIngestState::Started].timestamp.is_some());
    let history = owner.batch_get_graph_member_datasources().graph_arn(&graph).account_ids(MEMBER).send().await.unwrap();
    assert_eq!(history.member_datasources().len(), 1);

    let now = SystemTime::now();
    let start = owner.start_investigation().graph_arn(&graph).entity_arn(ROLE).scope_end_time(DateTime::from(now - Duration::from_secs(60)));
    let id = start.scope_start_time(DateTime::from(now - Duration::from_secs(90_000))).send().await.unwrap().investigation_id.unwrap();
    assert_eq!(id.len(), 21);
    let end = std::time::Instant::now() + Duration::from_secs(60);
    let investigation = loop {
        let investigation = owner.get_investigation().graph_arn(&graph).investigation_id(&id).send().await.unwrap();
        if investigation.status != Some(Status::Running) {
            break investigation;
        }
        assert!(std::time::Instant::now() < end, "{investigation:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!((investigation.status, investigation.entity_arn.as_deref()), (Some(Status::Successful), Some(ROLE)));
    assert!(investigation.severity.is_some() && investigation.scope_start_time.is_some());
    assert!(owner.list_indicators().graph_arn(&graph).investigation_id(&id).send().await.unwrap().indicators().is_empty(), "nothing is known of the role");
    owner.update_investigation_state().graph_arn(&graph).investigation_id(&id).state(State::Archived).send().await.unwrap();
    let archived = FilterCriteria::builder().state(StringFilter::builder().value("ARCHIVED").build().unwrap()).build();
    let listed = owner.list_investigations().graph_arn(&graph).filter_criteria(archived).send().await.unwrap();
    assert_eq!(listed.investigation_details()[0].investigation_id.as_deref(), Some(id.as_str()));

    // Errors come as the model's types.
    let refused = guest.list_members().graph_arn(&graph).send().await.unwrap_err();
    assert_eq!((refused.code(), refused.raw_response().unwrap().status().as_u16()), (Some("AccessDeniedException"), 403));
    let missing = owner.get_investigation().graph_arn(&graph).investigation_id("000000000000000000000").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
    let invalid = owner.list_members().graph_arn("arn:aws:s3:::bucket").send().await.unwrap_err().into_service_error();
    assert!(invalid.is_validation_exception() && invalid.message().is_some_and(|message| message.contains("graphArn")), "{invalid:?}");

    let removed = owner.delete_members().graph_arn(&graph).account_ids(MEMBER).send().await.unwrap();
    assert_eq!(removed.account_ids(), [MEMBER]);
    owner.delete_graph().graph_arn(&graph).send().await.unwrap();
    assert!(owner.list_graphs().send().await.unwrap().graph_list().is_empty());
    let (status, log) = server.stop();
    assert_eq!(status.code(), Some(0), "{log}");
}
