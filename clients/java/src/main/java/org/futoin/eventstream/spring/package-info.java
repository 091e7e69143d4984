/** Events in transactions that Spring manages; needs {@code spring-jdbc}. */
package org.futoin.eventstream.spring;
