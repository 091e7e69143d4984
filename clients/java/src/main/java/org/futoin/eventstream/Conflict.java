package org.futoin.eventstream;

import org.futoin.evt.v1.ConflictPolicy;

/** What to do when another session of the same component is open. */
public enum Conflict {
    /** End the other session. */
    TAKE_OVER(ConflictPolicy.CONFLICT_POLICY_TAKE_OVER),
    /** End this receiver with {@code SUBSCRIPTION_ACTIVE}. */
    REJECT(ConflictPolicy.CONFLICT_POLICY_REJECT),
    /** Wait until the other session has ended. */
    STAND_BY(ConflictPolicy.CONFLICT_POLICY_STAND_BY);

    final ConflictPolicy policy;

    Conflict(ConflictPolicy policy) {
        this.policy = policy;
    }
}
