//! AWS services and operations that generated calls are drawn from, busiest first.

/// What a call's request and answer look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// An S3 object is read or written.
    S3Object,
    /// An S3 bucket is listed, read or changed.
    S3Bucket,
    /// A KMS key is used.
    KmsKey,
    /// A DynamoDB table's items are read or written.
    Table,
    /// A Lambda function is invoked.
    Function,
    /// EC2 instances are described or changed.
    Instance,
    /// A log stream is made or written.
    LogStream,
    /// A secret is read.
    Secret,
    /// Nothing is given and little answered.
    Empty,
    /// Something is listed or read.
    Read,
    /// Something is made or changed.
    Write,
}

/// One operation of a service.
#[derive(Debug, Clone)]
pub struct Operation {
    /// The service's name in ARNs, such as `s3`.
    pub service: &'static str,
    /// The DNS name CloudTrail writes, such as `monitoring.amazonaws.com`.
    pub source: String,
    /// Its name.
    pub name: &'static str,
    /// What it acts on, in lower camel case, such as `functionConfiguration`.
    pub noun: String,
    /// Whether it only reads.
    pub read_only: bool,
    /// Whether CloudTrail counts it as a data event.
    pub data: bool,
    /// What request and answer look like.
    pub shape: Shape,
}

/// Every operation, grouped by service: busy services and operations come first.
pub fn operations() -> Vec<Vec<Operation>> {
    SERVICES
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(service, names)| {
            let service = service.trim();
            let (arn, dns) = service.split_once('=').unwrap_or((service, service));
            names.split_whitespace().map(|name| operation(arn, dns, name)).collect()
        })
        .collect()
}

fn operation(service: &'static str, dns: &str, name: &'static str) -> Operation {
    let verb = name.char_indices().skip(1).find(|(_, letter)| letter.is_ascii_uppercase()).map_or(name.len(), |(at, _)| at);
    let (verb, noun) = name.split_at_checked(verb).unwrap_or((name, ""));
    let mut letters = noun.trim_end_matches('s').chars();
    let noun = letters.next().map_or_else(|| "item".to_owned(), |first| first.to_ascii_lowercase().to_string() + letters.as_str());
    let read_only = matches!(
        verb,
        "Describe" | "Get" | "List" | "Head" | "Lookup" | "Search" | "Query" | "Scan" | "Decrypt" | "Select" | "Preview" | "Test" | "Simulate" | "Assess"
    ) || name.starts_with("BatchGet");
    let shape = match (service, name) {
        ("s3", "GetObject" | "PutObject" | "HeadObject" | "DeleteObject" | "CopyObject" | "GetObjectTagging" | "RestoreObject" | "UploadPart") => {
            Shape::S3Object
        }
        ("s3", "ListBuckets") | ("sts", "GetCallerIdentity") | ("iam", "GetAccountSummary" | "GetAccountPasswordPolicy") => Shape::Empty,
        ("s3", _) => Shape::S3Bucket,
        ("kms", "Decrypt" | "Encrypt" | "GenerateDataKey" | "DescribeKey" | "ReEncrypt" | "Sign" | "Verify" | "GenerateDataKeyWithoutPlaintext") => {
            Shape::KmsKey
        }
        ("dynamodb", "GetItem" | "PutItem" | "Query" | "Scan" | "UpdateItem" | "DeleteItem" | "BatchGetItem" | "BatchWriteItem" | "DescribeTable") => {
            Shape::Table
        }
        ("lambda", "Invoke") => Shape::Function,
        (
            "ec2",
            "DescribeInstances" | "StartInstances" | "StopInstances" | "TerminateInstances" | "DescribeInstanceStatus" | "RebootInstances" | "GetPasswordData",
        ) => Shape::Instance,
        ("logs", "CreateLogStream" | "PutLogEvents" | "DescribeLogStreams") => Shape::LogStream,
        ("secretsmanager", "GetSecretValue" | "DescribeSecret") => Shape::Secret,
        _ if read_only => Shape::Read,
        _ => Shape::Write,
    };
    let data = matches!(shape, Shape::S3Object | Shape::Function) || (shape == Shape::Table && name != "DescribeTable");
    Operation { service, source: format!("{dns}.amazonaws.com"), name, noun, read_only, data, shape }
}

const SERVICES: &str = "
s3: GetObject PutObject HeadObject ListObjects GetBucketLocation GetBucketAcl ListBuckets DeleteObject GetBucketPolicy GetBucketEncryption GetBucketVersioning CopyObject GetObjectTagging UploadPart GetBucketTagging GetBucketLogging PutBucketPolicy CreateBucket DeleteBucket PutBucketPublicAccessBlock GetBucketPublicAccessBlock PutBucketEncryption PutBucketVersioning RestoreObject PutBucketLifecycle
kms: Decrypt GenerateDataKey Encrypt DescribeKey ListAliases ListKeys GetKeyPolicy GetKeyRotationStatus CreateGrant RetireGrant ListResourceTags ReEncrypt GenerateDataKeyWithoutPlaintext Sign Verify CreateKey CreateAlias DisableKey ScheduleKeyDeletion PutKeyPolicy
sts: GetCallerIdentity GetSessionToken DecodeAuthorizationMessage GetAccessKeyInfo GetFederationToken
ec2: DescribeInstances DescribeVolumes DescribeNetworkInterfaces DescribeSecurityGroups DescribeSubnets DescribeVpcs DescribeTags DescribeInstanceStatus DescribeImages DescribeSnapshots DescribeRegions DescribeRouteTables DescribeAddresses DescribeInstanceTypes DescribeLaunchTemplates DescribeAvailabilityZones CreateTags RunInstances StartInstances StopInstances TerminateInstances CreateNetworkInterface DeleteNetworkInterface AttachVolume DetachVolume CreateSnapshot DeleteSnapshot CreateVolume AuthorizeSecurityGroupIngress RevokeSecurityGroupIngress CreateSecurityGroup ModifyInstanceAttribute CreateLaunchTemplateVersion DescribeNatGateways DescribeVpcEndpoints DescribeFlowLogs GetPasswordData RebootInstances
logs: CreateLogStream PutLogEvents DescribeLogStreams DescribeLogGroups GetLogEvents FilterLogEvents CreateLogGroup StartQuery GetQueryResults PutRetentionPolicy DescribeMetricFilters PutSubscriptionFilter
dynamodb: GetItem Query PutItem UpdateItem DescribeTable BatchGetItem Scan BatchWriteItem DeleteItem ListTables DescribeTimeToLive CreateTable UpdateTable DescribeContinuousBackups TagResource
lambda: Invoke GetFunction20150331v2 ListFunctions20150331 GetFunctionConfiguration20150331v2 ListTags20170331 UpdateFunctionCode20150331v2 UpdateFunctionConfiguration20150331v2 CreateFunction20150331 AddPermission20150331v2 ListEventSourceMappings20150331 PublishVersion20150331 GetPolicy20150331v2 ListLayers20181031
cloudwatch=monitoring: PutMetricData GetMetricData DescribeAlarms GetMetricStatistics ListMetrics PutMetricAlarm DescribeAlarmHistory DeleteAlarms GetDashboard PutDashboard
ssm: UpdateInstanceInformation GetParameter GetParameters GetParametersByPath ListAssociations PutInventory DescribeInstanceInformation SendCommand GetCommandInvocation StartSession TerminateSession PutParameter DescribeParameters ListCommands UpdateInstanceAssociationStatus GetDocument ListInstanceAssociations PutComplianceItems OpenDataChannel
secretsmanager: GetSecretValue DescribeSecret ListSecrets PutSecretValue CreateSecret RotateSecret UpdateSecret TagResource GetResourcePolicy
iam: GetRole ListRoles GetUser ListUsers GetPolicy GetPolicyVersion ListAttachedRolePolicies ListRolePolicies GetRolePolicy ListAccessKeys GetAccessKeyLastUsed ListPolicies ListGroupsForUser GetInstanceProfile ListInstanceProfiles GenerateServiceLastAccessedDetails GetAccountSummary GetAccountPasswordPolicy ListMFADevices PassRole CreateRole AttachRolePolicy PutRolePolicy CreatePolicy CreateAccessKey DeleteAccessKey CreateUser AttachUserPolicy UpdateAssumeRolePolicy TagRole CreateServiceLinkedRole SimulatePrincipalPolicy
sqs: ReceiveMessage SendMessage DeleteMessage GetQueueAttributes GetQueueUrl ListQueues SendMessageBatch CreateQueue SetQueueAttributes PurgeQueue
sns: Publish ListTopics GetTopicAttributes ListSubscriptions Subscribe CreateTopic SetTopicAttributes ListTagsForResource
ecr: BatchGetImage GetAuthorizationToken GetDownloadUrlForLayer BatchCheckLayerAvailability DescribeRepositories DescribeImages PutImage InitiateLayerUpload CompleteLayerUpload CreateRepository DescribeImageScanFindings
ecs: DescribeServices DescribeTasks ListTasks DescribeTaskDefinition DescribeClusters UpdateService RegisterTaskDefinition RunTask StopTask SubmitTaskStateChange DiscoverPollEndpoint ListServices ListClusters
eks: DescribeCluster ListClusters ListNodegroups DescribeNodegroup AccessKubernetesApi ListAddons DescribeAddon UpdateNodegroupConfig ListFargateProfiles
rds: DescribeDBInstances DescribeDBClusters DescribeDBSnapshots ListTagsForResource DescribeDBParameterGroups CreateDBSnapshot ModifyDBInstance DescribeEvents CreateDBInstance DescribePendingMaintenanceActions
elasticloadbalancing: DescribeLoadBalancers DescribeTargetGroups DescribeTargetHealth DescribeListeners DescribeTags RegisterTargets DeregisterTargets DescribeLoadBalancerAttributes ModifyListener DescribeRules
autoscaling: DescribeAutoScalingGroups DescribeAutoScalingInstances DescribeLaunchConfigurations DescribeScalingActivities SetDesiredCapacity UpdateAutoScalingGroup CompleteLifecycleAction RecordLifecycleActionHeartbeat DescribePolicies
cloudformation: DescribeStacks DescribeStackEvents ListStacks DescribeStackResources GetTemplate CreateChangeSet ExecuteChangeSet DescribeChangeSet UpdateStack CreateStack ListStackResources DeleteStack ListExports
cloudtrail: LookupEvents DescribeTrails GetTrailStatus GetEventSelectors ListTrails ListTags StartQuery GetQueryResults UpdateTrail
config: PutEvaluations DescribeConfigRules DescribeConfigurationRecorders BatchGetResourceConfig SelectResourceConfig GetResourceConfigHistory DescribeComplianceByConfigRule DescribeConfigurationRecorderStatus
events: PutEvents ListRules DescribeRule ListTargetsByRule PutRule PutTargets DisableRule
states: StartExecution DescribeExecution GetExecutionHistory ListExecutions SendTaskSuccess DescribeStateMachine ListStateMachines
glue: GetTable GetTables GetDatabase GetPartitions GetDatabases StartJobRun GetJobRun GetJobRuns BatchGetPartition GetConnection CreateTable UpdateTable
athena: StartQueryExecution GetQueryExecution GetQueryResults ListQueryExecutions GetWorkGroup BatchGetQueryExecution StopQueryExecution
kinesis: GetRecords PutRecord PutRecords DescribeStreamSummary ListShards GetShardIterator ListStreams
firehose: DescribeDeliveryStream ListDeliveryStreams PutRecordBatch CreateDeliveryStream
organizations: DescribeOrganization ListAccounts DescribeAccount ListPolicies ListRoots ListParents DescribePolicy
tagging: GetResources GetTagKeys TagResources GetTagValues
route53: ListHostedZones ListResourceRecordSets GetHostedZone ChangeResourceRecordSets GetChange ListTagsForResource
acm: DescribeCertificate ListCertificates ListTagsForCertificate RequestCertificate GetCertificate
cloudfront: ListDistributions GetDistribution CreateInvalidation GetDistributionConfig UpdateDistribution
apigateway: GetRestApis GetResources GetStages GetDeployments GetUsagePlans CreateDeployment
elasticache: DescribeCacheClusters DescribeReplicationGroups ListTagsForResource DescribeCacheSubnetGroups
redshift: DescribeClusters DescribeClusterSnapshots GetClusterCredentials DescribeLoggingStatus
elasticfilesystem: DescribeFileSystems DescribeMountTargets DescribeAccessPoints NewClientConnection
guardduty: ListDetectors GetDetector ListFindings GetFindings ListMembers UpdateDetector
securityhub: GetFindings BatchImportFindings GetEnabledStandards DescribeHub BatchUpdateFindings ListMembers
access-analyzer: ListAnalyzers ListFindings ValidatePolicy GetFinding
inspector2: ListFindings BatchGetAccountStatus ListCoverage
macie2: GetMacieSession ListClassificationJobs DescribeBuckets
codebuild: BatchGetBuilds StartBuild BatchGetProjects ListProjects ListBuildsForProject
codepipeline: GetPipelineState PollForJobs StartPipelineExecution ListPipelines PutJobSuccessResult
codecommit: GitPull GitPush GetBranch ListRepositories GetCommit
codeartifact: GetAuthorizationToken GetPackageVersionAsset ListPackages
sso: ListAccounts GetRoleCredentials ListAccountRoles Federate Authenticate ListInstances
signin: GetSigninToken SwitchRole ExitRole
health: DescribeEvents DescribeEventAggregates DescribeEventDetails
support: DescribeTrustedAdvisorChecks DescribeTrustedAdvisorCheckResult DescribeCases RefreshTrustedAdvisorCheck
ce: GetCostAndUsage GetCostForecast GetReservationUtilization GetSavingsPlansCoverage
budgets: DescribeBudgets ViewBudget ModifyBudget
backup: ListBackupJobs StartBackupJob DescribeBackupVault ListRecoveryPointsByBackupVault
batch: DescribeJobs SubmitJob ListJobs DescribeJobQueues TerminateJob
elasticmapreduce: DescribeCluster ListClusters ListSteps ListInstances AddJobFlowSteps RunJobFlow
sagemaker: DescribeEndpoint ListTrainingJobs CreateTrainingJob DescribeTrainingJob InvokeEndpoint ListModels
bedrock: InvokeModel Converse ListFoundationModels GetFoundationModel InvokeModelWithResponseStream
cognito-idp: InitiateAuth RespondToAuthChallenge AdminGetUser ListUsers DescribeUserPool AdminInitiateAuth
es: DescribeDomain ListDomainNames ESHttpPost ESHttpGet DescribeElasticsearchDomains
wafv2: ListWebACLs GetWebACL GetSampledRequests ListResourcesForWebACL UpdateWebACL
servicequotas: ListServiceQuotas GetServiceQuota ListServices GetAWSDefaultServiceQuota
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_broad_and_classified() {
        let services = operations();
        let all: Vec<_> = services.iter().flatten().collect();
        assert!(services.len() >= 55, "{}", services.len());
        assert!(all.len() >= 450, "{}", all.len());
        let find = |service: &str, name: &str| *all.iter().find(|operation| operation.service == service && operation.name == name).unwrap();
        assert_eq!(find("cloudwatch", "PutMetricData").source, "monitoring.amazonaws.com");
        assert!(find("ec2", "DescribeVolumes").read_only && find("ec2", "DescribeVolumes").noun == "volume");
        assert!(!find("iam", "CreateAccessKey").read_only && find("iam", "CreateAccessKey").shape == Shape::Write);
        assert!(find("s3", "GetObject").data && !find("s3", "ListBuckets").data);
    }
}
