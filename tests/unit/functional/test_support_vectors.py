import numpy as np
import pytest
from sklearn.svm import SVC

from erasure.functional.support_vectors import support_vectors


def of_libsvm(x, is_second, penalty):
    machine = SVC(C=penalty, kernel="rbf", gamma=1.0, random_state=0).fit(x[:, None], is_second)
    order = machine.support_.argsort()
    return machine.support_[order], machine.dual_coef_[0][order], machine.intercept_[0]


@pytest.mark.parametrize("penalty", [0.1, 3.0, 50.0])
@pytest.mark.parametrize(("scale", "digits"), [(1.0, 1), (1.0, 9), (20.0, 2)])
def test_what_libsvm_finds_to_the_last_bit(penalty, scale, digits):
    generator = np.random.default_rng(0)
    for n_first, n_second in ((1, 1), (3, 40), (70, 60)):
        x = scale * np.concatenate([generator.beta(8, 2, n_first), generator.beta(6, 2, n_second)]).round(digits)
        is_second = generator.permutation(np.repeat([False, True], [n_first, n_second]))
        found, expected = support_vectors(x, is_second, penalty=penalty), of_libsvm(x, is_second, penalty)
        assert found.support.tolist() == expected[0].tolist()
        assert found.coefficients.tolist() == expected[1].tolist()
        assert found.intercept == expected[2]


def test_samples_that_are_left_out_and_taken_back_end_where_libsvm_does():
    generator = np.random.default_rng(1)
    x = np.concatenate([generator.normal(0, 1, 600), generator.normal(1.5, 1, 600)])
    is_second = np.arange(1200) >= 600
    found, expected = support_vectors(x, is_second, penalty=3.0), of_libsvm(x, is_second, 3.0)
    assert found.support.tolist() == expected[0].tolist()
    assert found.coefficients.tolist() == expected[1].tolist()


@pytest.mark.parametrize(("x", "is_second"), [([0.0, float("nan")], [False, True]), ([0.0, 1.0], [True, True])])
def test_what_no_machine_can_be_found_for_is_refused(x, is_second):
    with pytest.raises(ValueError, match="finite, and of two classes"):
        support_vectors(np.array(x), np.array(is_second), penalty=1.0)
