"""Titles of papers that components cite by authors, venue and identifier alone."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["OLDER_TITLES", "TITLES"]

TITLES: Mapping[str, str] = {
    "1512.03385": "Deep Residual Learning for Image Recognition",
    "1609.02907": "Semi-Supervised Classification with Graph Convolutional Networks",
    "1610.02413": "Equality of Opportunity in Supervised Learning",
    "1610.05820": "Membership Inference Attacks Against Machine Learning Models",
    "1703.04730": "Understanding Black-box Predictions via Influence Functions",
    "1706.03762": "Attention Is All You Need",
    "1706.04599": "On Calibration of Modern Neural Networks",
    "1708.06733": "BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain",
    "1810.00826": "How Powerful are Graph Neural Networks?",
    "1810.04805": "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
    "1904.01685": "Measuring Calibration in Deep Learning",
    "1905.00414": "Similarity of Neural Network Representations Revisited",
    "1911.04933": "Eternal Sunshine of the Spotless Net: Selective Forgetting in Deep Networks",
    "1911.08731": "Distributionally Robust Neural Networks for Group Shifts: On the Importance of Regularization for Worst-Case "
    "Generalization",
    "2002.03206": "Characterizing Structural Regularities of Labeled Data in Overparameterized Models",
    "2002.10077": "Approximate Data Deletion from Machine Learning Models",
    "2003.02960": "Forgetting Outside the Box: Scrubbing Deep Networks of Information Accessible from Input-Output Observations",
    "2003.04247": "Towards Probabilistic Verification of Machine Unlearning",
    "2004.14340": "WoodFisher: Efficient Second-Order Approximation for Neural Network Compression",
    "2008.03703": "What Neural Networks Memorize and Why: Discovering the Long Tail via Influence Estimation",
    "2010.10981": "Amnesiac Machine Learning",
    "2106.04378": "Adaptive Machine Unlearning",
    "2106.09685": "LoRA: Low-Rank Adaptation of Large Language Models",
    "2109.13398": "Unrolling SGD: Understanding Factors Influencing Machine Unlearning",
    "2111.08947": "Fast Yet Effective Machine Unlearning",
    "2112.03570": "Membership Inference Attacks From First Principles",
    "2201.05629": "Zero-Shot Machine Unlearning",
    "2201.06640": "Towards Adversarial Evaluations for Inexact Machine Unlearning",
    "2205.08096": "Can Bad Teaching Induce Forgetting? Unlearning in Deep Networks Using an Incompetent Teacher",
    "2302.09880": "Towards Unbounded Machine Unlearning",
    "2303.11570": "Boundary Unlearning",
    "2304.04934": "Model Sparsity Can Simplify Machine Unlearning",
    "2308.07707": "Fast Machine Unlearning Without Retraining Through Selective Synaptic Dampening",
    "2310.12508": "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image Classification and Generation",
    "2311.02240": "Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial Recognition Systems",
    "2312.02052": "DUCK: Distance-based Unlearning via Centroid Kinematics",
    "2312.03262": "Low-Cost High-Power Membership Inference Attacks",
    "2402.14015": "Corrective Machine Unlearning",
    "2402.19308": "Loss-Free Machine Unlearning",
    "2403.01218": "Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of Privacy",
    "2406.01257": "What Makes Unlearning Hard and What to Do About It",
    "2406.09073": "Are We Making Progress in Unlearning? Findings from the First NeurIPS Unlearning Competition",
    "2410.01276": "Deep Unlearn: Benchmarking Machine Unlearning",
    "2410.23232": "Attribute-to-Delete: Machine Unlearning via Datamodel Matching",
    "2505.15700": "'Alexa, Can You Forget Me?' Machine Unlearning Benchmark in Spoken Language Understanding",
    "2506.13009": "Rectifying Privacy and Efficacy Measurements in Machine Unlearning: A New Inference Attack Perspective",
}
"""By arXiv number."""

OLDER_TITLES: Mapping[str, str] = {
    "brier1950": "Verification of Forecasts Expressed in Terms of Probability",
    "browne2000": "A Portable Programming Interface for Performance Evaluation on Modern Processors",
    "calders2009": "Building Classifiers with Independency Constraints",
    "cao2015": "Towards Making Systems Forget with Machine Unlearning",
    "clopper1934": "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial",
    "cohen1960": "A Coefficient of Agreement for Nominal Scales",
    "fard2016": "Launch and Iterate: Reducing Prediction Churn",
    "good1952": "Rational Decisions",
    "hellinger1909": "Neue Begründung der Theorie quadratischer Formen von unendlichvielen Veränderlichen",
    "kullback1951": "On Information and Sufficiency",
    "lecun1998": "Gradient-Based Learning Applied to Document Recognition",
    "lin1991": "Divergence Measures Based on the Shannon Entropy",
    "ma2022": "Learn to Forget: Machine Unlearning via Neuron Masking",
    "pedregosa2011": "Scikit-learn: Machine Learning in Python",
    "rumelhart1986": "Learning Representations by Back-propagating Errors",
    "sommer2022": "Athena: Probabilistic Verification of Machine Unlearning",
    "song2012": "Feature Selection via Dependence Maximization",
}
"""By first author and year, of papers that have no arXiv number."""
